#include "bundle/manifest_checks.hpp"

#include <set>

#include "bundle/answer_checks.hpp"
#include "bundle/settings_check.hpp"

namespace edgevit::detail {

namespace {

/// An input or output has fewer values for an image.
constexpr int64_t kMostTensorValues = int64_t{1} << 31;

bool rises(const std::array<int64_t, 3>& batch) {
  return 1 <= batch[0] && batch[0] <= batch[1] && batch[1] <= batch[2];
}

std::array<int64_t, 3> read_batch(const Value& owner) {
  const Value* batch = owner.find("batch");
  if (batch == nullptr) return {1, 1, 1};
  const auto& items = batch->items();
  return {*items[0].whole(), *items[1].whole(), *items[2].whole()};
}

/// Whether two lists of inputs or outputs have the same shapes and types; the first side, the batch, is passed over.
bool are_same_ports(const Value& ours, const Value& theirs) {
  if (ours.items().size() != theirs.items().size()) return false;
  for (size_t i = 0; i < ours.items().size(); ++i) {
    const Value& a = ours.items()[i];
    const Value& b = theirs.items()[i];
    const auto& shape = a.find("shape")->items();
    const auto& other = b.find("shape")->items();
    if (a.find("dtype")->text() != b.find("dtype")->text()) return false;
    if (std::max<size_t>(shape.size(), 1) != std::max<size_t>(other.size(), 1)) return false;
    for (size_t side = 1; side < shape.size(); ++side) {
      if (shape[side].type() != other[side].type() || shape[side].text() != other[side].text()) return false;
    }
  }
  return true;
}

bool is_possible_shape(const Value& shape) {
  int64_t values = 1;
  for (const Value& side : shape.items()) {
    if (side.is_text()) continue;
    const int64_t length = *side.whole();
    if (length <= 0 || __builtin_mul_overflow(values, length, &values)) return false;
  }
  return values < kMostTensorValues;
}

void check_shapes(const Value& document, const Manifest& manifest, Problems& problems) {
  const Value& inputs = *document.find("inputs");
  const Value& outputs = *document.find("outputs");
  for (const Value* specs : {&inputs, &outputs}) {
    for (const Value& spec : specs->items()) {
      const Value& shape = *spec.find("shape");
      problems.add_if(!is_possible_shape(shape),
                      show_name(spec.find("name")->text()) + " has the shape " + dump_json(shape, {}, 200));
    }
  }
  if (manifest.inputs.size() != 1 || manifest.outputs.empty()) {
    problems.add("there are " + std::to_string(manifest.inputs.size()) + " inputs and " +
                 std::to_string(manifest.outputs.size()) + " outputs");
  }
  const PreprocessOptions& preprocess = manifest.preprocess;
  const std::vector<int64_t> sides{preprocess.height, preprocess.width, 3};
  if (!manifest.inputs.empty()) {
    const std::vector<int64_t>& shape = manifest.inputs[0].shape;
    const bool same = !shape.empty() && std::vector<int64_t>(shape.begin() + 1, shape.end()) == sides;
    problems.add_if(!same, "preprocess gives " + std::to_string(sides[0]) + " × " + std::to_string(sides[1]) +
                               " × 3, and the input is " + dump_json(*inputs.items()[0].find("shape"), {}, 200));
  }
  const Value* engine = document.find("engine");
  if (manifest.engine) {
    const bool same =
        are_same_ports(*engine->find("inputs"), inputs) && are_same_ports(*engine->find("outputs"), outputs);
    problems.add_if(!same, "the engine's inputs and outputs are others than the bundle's");
  }
  if (manifest.task == "classify") {
    bool fit = false;
    bool all = true;
    for (const TensorSpec& spec : manifest.outputs) {
      if (spec.shape.empty()) continue;
      fit = true;
      all = all && spec.shape.back() == manifest.classes && manifest.classes >= 0;
    }
    problems.add_if(!fit || !all,
                    "there are " + std::to_string(manifest.classes) + " classes, and the outputs have others");
  }
}

void check_preprocess(const Value& preprocess, Problems& problems) {
  const std::string prefix = "preprocess: ";
  for (const char* name : {"height", "width", "resize_height", "resize_width"}) {
    const int64_t size = *preprocess.find(name)->whole();
    problems.add_if(size < 1 || size > 1 << 15,
                    prefix + name + " = " + std::to_string(size) + " is not between 1 and 32768");
  }
  bool above = true;
  for (const Value& value : preprocess.find("std")->items()) above = above && *value.number() > 0;
  problems.add_if(!above, prefix + "std is not three finite numbers above 0");
  if (const Value* fill = preprocess.find("fill")) {
    bool colour = true;
    for (const Value& value : fill->items()) colour = colour && *value.whole() >= 0 && *value.whole() <= 255;
    problems.add_if(!colour, prefix + "fill is not three values from 0 to 255");
  }
  for (const char* name : {"rescale", "crop_ratio"}) {
    const Value* factor = preprocess.find(name);
    const bool given = factor != nullptr && factor->type() != Value::Type::null;
    problems.add_if(given && !(*factor->number() > 0), prefix + name + " is not a finite number above 0");
  }
  const Value* antialias = preprocess.find("antialias");
  const bool plain = antialias != nullptr && !antialias->truth();
  const bool bilinear = preprocess.find("interpolation")->text() == "bilinear";
  problems.add_if(plain && !bilinear, prefix + "antialias = false goes with bilinear interpolation, not with " +
                                          preprocess.find("interpolation")->text());
  const bool exact = *preprocess.find("height")->whole() == *preprocess.find("resize_height")->whole() &&
                     *preprocess.find("width")->whole() == *preprocess.find("resize_width")->whole();
  problems.add_if(preprocess.find("resize")->text() == "warp" && !(plain && bilinear && exact),
                  prefix + "resize = warp goes with bilinear interpolation to the input's size and antialias = false");
}

void check_engine(const Value& engine, const EngineRecord& record, Problems& problems) {
  const auto batch = read_batch(engine);
  problems.add_if(!rises(batch), "engine: batch is not of the form 1 ≤ least ≤ best ≤ largest");
  problems.add_if(batch[2] > kLargestBatch,
                  "the engine takes more than " + std::to_string(kLargestBatch) + " images a call");
  problems.add_if(record.files.empty(), "engine: files is empty");
}

void check_canary(const Value& canary, const CanaryRecord& record, Problems& problems) {
  const int64_t images = *canary.find("images")->whole();
  problems.add_if(images < 1 || images > kMostImages,
                  "canary: images = " + std::to_string(images) + " is not from 1 to " + std::to_string(kMostImages));
  problems.add_if(record.place.has_value() == (record.answers == "graph"),
                  "canary: place is there where answers are the engine's, and not where they are the graph's");
}

void check_files(const Value& files, Problems& problems) {
  for (size_t i = 0; i < files.items().size(); ++i) {
    const std::string name = "files." + show_name(files.keys()[i]);
    const std::string& digest = files.items()[i].find("sha256")->text();
    const bool hex = digest.size() == 64 && digest.find_first_not_of("0123456789abcdef") == std::string::npos;
    problems.add_if(!hex, name + ": sha256 is not 64 hexadecimal digits");
    problems.add_if(*files.items()[i].find("size_bytes")->whole() < 0, name + ": size_bytes is below 0");
  }
}

bool is_version(const std::string& text) {
  bool digit = false;
  for (char letter : text) {
    if (letter == '.' ? !digit : letter < '0' || letter > '9') return false;
    digit = letter != '.';
  }
  return digit;
}

bool is_capability(const std::string& text) {
  const size_t dot = text.find('.');
  return is_version(text) && dot != std::string::npos && dot + 2 == text.size();
}

const std::string& text_of(const Value& table, const char* key) {
  static const std::string kNone;
  const Value* value = table.find(key);
  return value != nullptr ? value->text() : kNone;
}

const std::vector<Value>& list_of(const Value& table, const char* key) {
  static const std::vector<Value> kNone;
  const Value* value = table.find(key);
  return value != nullptr ? value->items() : kNone;
}

const Tier* find_tier(const std::string& name) {
  for (const Tier& tier : kTiers) {
    if (name == tier.name) return &tier;
  }
  return nullptr;
}

void check_tiers(const Value& target, const Library& library, bool on_cpu, Problems& problems) {
  const auto& isa = list_of(target, "isa");
  const std::string& architecture = text_of(target, "architecture");
  std::set<std::string> names;
  std::set<std::string> architectures;
  for (const Value& name : isa) {
    const std::string of = find_tier(name.text())->architecture;
    names.insert(name.text());
    architectures.insert(of);
    problems.add_if(!architecture.empty() && of != architecture,
                    "target: isa has " + name.text() + ", which " + architecture + " has not");
    for (const Lack& lack : library.lacks) {
      problems.add_if(name.text() == lack.tier, "target: isa has " + name.text() + ", for which " + lack.reason);
    }
  }
  problems.add_if(!isa.empty() && !on_cpu, "target: isa is of a CPU, and the device is not one");
  problems.add_if(names.size() < isa.size(), "target: isa names an instruction set twice");
  problems.add_if(architectures.size() > 1, "target: isa is of several architectures");
}

}  // namespace

void check_manifest(const Value& document, const Manifest& manifest, Problems& problems) {
  check_preprocess(*document.find("preprocess"), problems);
  if (manifest.engine) check_engine(*document.find("engine"), *manifest.engine, problems);
  if (manifest.canary) check_canary(*document.find("canary"), *manifest.canary, problems);
  if (const Value* files = document.find("files")) check_files(*files, problems);
  check_shapes(document, manifest, problems);
  check_answer(document, manifest, problems);
  const auto batch = read_batch(document);
  problems.add_if(!rises(batch) || batch[2] > kLargestBatch,
                  "batch is not of the form 1 ≤ least ≤ best ≤ largest ≤ " + std::to_string(kLargestBatch));
  const int64_t classes = *document.find("classes")->whole();
  const bool counted = !manifest.labels || static_cast<int64_t>(manifest.labels->size()) == classes;
  problems.add_if(!counted, "there are others labels than " + std::to_string(classes) + " classes");
  problems.add_if(classes > INT32_MAX || classes < INT32_MIN, "classes = " + std::to_string(classes) + " is too large");
}

void check_target(const Value& target, Problems& problems) {
  const std::string& backend = text_of(target, "backend");
  const std::string& device = text_of(target, "device");
  const Library& library = *find_library(backend);
  const bool on_cpu = library.cpu && device == "CPU";
  problems.add_if(library.devices.count > 0 && !contains(library.devices, device),
                  "target: device = " + show_name(device) + " is not one of " + backend + "'s");
  const auto& precisions = list_of(target, "precisions");
  problems.add_if(precisions.empty(), "target: precisions is empty");
  if (const Value* opset = target.find("opset")) {
    problems.add_if(*opset->whole() < 17 || *opset->whole() > 24,
                    "target: opset is not between 17 (LayerNormalization) and 24");
  }
  for (const Value& wanted : list_of(target, "preference")) {
    bool there = false;
    for (const Value& precision : precisions) there = there || precision.text() == wanted.text();
    problems.add_if(!there, "target: preference has " + wanted.text() + ", which precisions has not");
  }
  check_tiers(target, library, on_cpu, problems);
  const auto& also = list_of(target, "also");
  bool rivals = true;
  for (const Value& other : also) rivals = rivals && other.text() != backend && find_library(other.text())->cpu;
  problems.add_if(!also.empty() && !(on_cpu && rivals),
                  "target: also may have a CPU's other libraries beside its backend, nothing else");
  const Value* memory = target.find("memory_bytes");
  problems.add_if(memory != nullptr && memory->whole() && *memory->whole() <= 0, "target: memory_bytes is not above 0");
  const Value* capability = target.find("compute_capability");
  problems.add_if(capability != nullptr && capability->is_text() && !is_capability(capability->text()),
                  "target: compute_capability is not of the form 8.7");
  const Value* version = target.find("runtime_version");
  problems.add_if(version != nullptr && version->is_text() && !is_version(version->text()),
                  "target: runtime_version is not of the form 10.3");
}

}  // namespace edgevit::detail
