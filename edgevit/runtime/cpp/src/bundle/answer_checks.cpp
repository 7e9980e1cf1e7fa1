#include "bundle/answer_checks.hpp"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace edgevit::detail {

namespace {

constexpr int64_t kLargestMask = 4096;
constexpr int64_t kLargestKernel = 99;
constexpr size_t kMostEdges = 10'000;

struct FormFacts {
  const char* name;
  const char* task;
  std::vector<std::pair<size_t, size_t>> ranks;  // least and most axes of each output, beside that of images
};

const std::vector<FormFacts>& list_forms() {
  static const std::vector<FormFacts> kForms = {
      {"depth", "depth", {{2, 3}}},
      {"class_maps", "segment", {{3, 3}}},
      {"mask_queries", "segment", {{2, 2}, {3, 3}}},
      {"boxes", "detect", {{2, 2}, {2, 2}}},
      {"heatmaps", "pose", {{3, 3}}},
  };
  return kForms;
}

const Value* find(const Value& table, const char* key) {
  const Value* value = table.find(key);
  return value != nullptr && value->type() != Value::Type::null ? value : nullptr;
}

void check_options(const Value& answer, const FormFacts& form, Problems& problems) {
  const std::string name = form.name;
  problems.add_if(answer.find("outputs")->items().size() != form.ranks.size(),
                  "answer: outputs are not " + std::to_string(form.ranks.size()) + ", as " + name + " reads");
  if (const Value* threshold = find(answer, "threshold")) {
    problems.add_if(!(*threshold->number() >= 0), "answer: threshold is not a finite number from 0");
  }
  const Value* size = find(answer, "mask_size");
  for (size_t i = 0; size != nullptr && i < 2; ++i) {
    const int64_t side = *size->items()[i].whole();
    problems.add_if(side < 1 || side > kLargestMask, "answer: mask_size is not between 1 and 4096");
  }
  problems.add_if((name == "mask_queries") != (size != nullptr),
                  "answer: mask_size is of mask_queries, which need one, and the form is " + name);
  if (const Value* kernel = find(answer, "kernel")) {
    const int64_t side = *kernel->whole();
    problems.add_if(side < 1 || side > kLargestKernel || side % 2 == 0,
                    "answer: kernel is not an odd number from 1 to 99");
  }
  const Value* edges = find(answer, "edges");
  problems.add_if(edges != nullptr && edges->items().size() > kMostEdges, "answer: edges are more than 10000");
}

/// The shapes of what the answer reads, without the axis of images; none where they do not fit the form.
std::vector<std::vector<int64_t>> find_shapes(const Value& answer, const FormFacts& form, const Manifest& manifest,
                                              Problems& problems) {
  std::vector<std::vector<int64_t>> shapes;
  const auto& names = answer.find("outputs")->items();
  for (size_t i = 0; i < names.size() && i < form.ranks.size(); ++i) {
    const TensorSpec* found = nullptr;  // of two outputs of one name the last, as in Python
    for (const TensorSpec& spec : manifest.outputs) found = spec.name == names[i].text() ? &spec : found;
    if (found == nullptr) {
      problems.add("answer reads " + show_name(names[i].text()) + ", which is none of the outputs");
      return {};
    }
    std::vector<int64_t> shape = found->shape;
    if (!shape.empty()) shape.erase(shape.begin());
    const auto [least, most] = form.ranks[i];
    const bool fixed = std::all_of(shape.begin(), shape.end(), [](int64_t side) { return side > 0; });
    if (shape.size() < least || shape.size() > most || !fixed) {
      problems.add("answer reads " + std::string(form.name) + ", and " + show_name(found->name) + " has another shape");
      return {};
    }
    shapes.push_back(std::move(shape));
  }
  return shapes;
}

int64_t count_named(const Value& answer, const std::string& form, const std::vector<int64_t>& shape) {
  if (form == "depth") return 0;
  if (form == "mask_queries") return shape.back() - 1;
  if (form != "boxes") return shape.front();
  const Value* scores = find(answer, "scores");
  return shape.back() - (scores == nullptr || scores->text() == "softmax" ? 1 : 0);
}

}  // namespace

void check_answer(const Value& document, const Manifest& manifest, Problems& problems) {
  const Value* answer = find(document, "answer");
  const auto& forms = list_forms();
  const bool answered = std::any_of(forms.begin(), forms.end(),
                                    [&](const FormFacts& facts) { return manifest.task == facts.task; });
  if (answer == nullptr) {
    problems.add_if(answered, "the task is " + show_name(manifest.task) + ", and there is no answer");
    return;
  }
  const std::string& name = answer->find("form")->text();
  const auto facts =
      std::find_if(forms.begin(), forms.end(), [&](const FormFacts& form) { return name == form.name; });
  problems.add_if(manifest.task != facts->task, "the task is " + show_name(manifest.task) + ", and answer is of " +
                                                    facts->task);
  check_options(*answer, *facts, problems);
  const auto shapes = find_shapes(*answer, *facts, manifest, problems);
  if (shapes.size() != facts->ranks.size()) return;
  const int64_t named = count_named(*answer, name, shapes[0]);
  problems.add_if(name == "depth" && shapes[0].size() == 3 && shapes[0][0] != 1,
                  "answer reads one map of depth, and there are others");
  problems.add_if(shapes.size() == 2 && shapes[0][0] != shapes[1][0], "answer reads two numbers of queries");
  problems.add_if(name == "boxes" && shapes[1][1] != 4, "answer reads boxes of 4 numbers, and they have others");
  problems.add_if(name != "depth" && named < 1, "answer reads outputs without a class");
  problems.add_if(manifest.labels && static_cast<int64_t>(manifest.labels->size()) != named,
                  "there are other labels than the " + std::to_string(named) + " that answer reads");
  const Value* edges = find(*answer, "edges");
  bool inside = true;
  for (size_t i = 0; edges != nullptr && i < edges->items().size(); ++i) {
    for (const Value& end : edges->items()[i].items()) inside = inside && *end.whole() >= 0 && *end.whole() < named;
  }
  problems.add_if(!inside, "answer.edges names keypoints that are not there");
}

}  // namespace edgevit::detail
