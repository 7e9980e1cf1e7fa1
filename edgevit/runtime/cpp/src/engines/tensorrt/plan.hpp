// A plan in memory: read, and compared with what its description says; as edgevit/runtime/tensorrt/plan.py.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "engines/engines.hpp"
#include "engines/tensorrt/library.hpp"

namespace edgevit::detail::trt {

/// A deserialised plan, compared with what its description says.
struct Plan {
  struct Profile {
    int number, least, best, largest;
  };

  Plan(const Bundle& bundle, const EngineRecord& record) : engine(record), file(bundle.path() + "/" + record.files.front()) {
    const std::shared_ptr<const Bytes> bytes = bundle.map(record.files.front());
    get_log().take();
    runtime.reset(nvinfer1::createInferRuntime(get_log()));
    if (runtime == nullptr) fail(std::string(name) + " does not start");
    plan.reset(runtime->deserializeCudaEngine(bytes->data(), bytes->size()));
    if (plan == nullptr) fail(std::string(name) + " cannot read " + file);
    check_names(bundle);
    const char* input = engine.inputs.front().name.c_str();
    for (int i = 0; i < plan->getNbOptimizationProfiles(); ++i) {
      using Selector = nvinfer1::OptProfileSelector;
      profiles.push_back({i, static_cast<int>(plan->getProfileShape(input, i, Selector::kMIN).d[0]),
                          static_cast<int>(plan->getProfileShape(input, i, Selector::kOPT).d[0]),
                          static_cast<int>(plan->getProfileShape(input, i, Selector::kMAX).d[0])});
    }
    for (const int size : engine.batch) choose_profile(size);
  }

  /// The profile whose best batch is nearest among those that take so many images.
  int choose_profile(int size) const {
    const Profile* chosen = nullptr;
    for (const Profile& profile : profiles) {
      if (size < profile.least || size > profile.largest) continue;
      if (chosen == nullptr || std::abs(profile.best - size) < std::abs(chosen->best - size)) chosen = &profile;
    }
    if (chosen == nullptr) fail("no profile of " + file + " takes " + std::to_string(size) + " images a call");
    return chosen->number;
  }

  EngineRecord engine;
  std::string file;
  std::unique_ptr<nvinfer1::IRuntime> runtime;  // must be older than its plans
  std::unique_ptr<nvinfer1::ICudaEngine> plan;
  std::vector<Profile> profiles;

 private:
  void check_names(const Bundle& bundle) const {
    const auto read = [&](const std::vector<TensorSpec>& specs, nvinfer1::TensorIOMode mode, nvinfer1::DataType type) {
      PortShapes shapes;
      for (const TensorSpec& spec : specs) {
        if (plan->getTensorIOMode(spec.name.c_str()) != mode || plan->getTensorDataType(spec.name.c_str()) != type) {
          fail(file + " is not the engine that is described: it has no such " + spec.name);
        }
        const nvinfer1::Dims shape = plan->getTensorShape(spec.name.c_str());
        shapes.emplace_back(shape.d, shape.d + std::max(0, static_cast<int>(shape.nbDims)));
      }
      return shapes;
    };
    const PortShapes inputs = read(engine.inputs, nvinfer1::TensorIOMode::kINPUT, nvinfer1::DataType::kUINT8);
    const PortShapes outputs = read(engine.outputs, nvinfer1::TensorIOMode::kOUTPUT, nvinfer1::DataType::kFLOAT);
    if (plan->getNbIOTensors() != static_cast<int>(inputs.size() + outputs.size())) {
      fail(file + " is not the engine that is described: it has " + std::to_string(plan->getNbIOTensors()) + " tensors");
    }
    check_ports(bundle, engine, inputs, outputs);
  }
};

}  // namespace edgevit::detail::trt
