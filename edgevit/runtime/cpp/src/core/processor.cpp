#include "core/processor.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#if defined(__linux__) && defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace edgevit::detail {
namespace {

using Flags = std::set<std::string>;

struct TierRecord {
  const char* name;
  const char* title;
  const char* limit;  // what ONEDNN_MAX_CPU_ISA calls it
  bool arm, bf16, f16;
  std::vector<std::string> flags;  // all that the kernel must list
};

/// From the oldest to the newest of each architecture.
const std::vector<TierRecord>& tiers() {
  static const std::vector<TierRecord> table{
      {"sse4.1", "SSE4.1", "SSE41", false, false, false, {"sse4_1"}},
      {"avx", "AVX", "AVX", false, false, false, {"avx"}},
      {"avx2", "AVX2", "AVX2", false, false, false, {"avx2", "fma"}},
      {"avx2_vnni", "AVX2-VNNI", "AVX2_VNNI", false, false, false, {"avx2", "fma", "avx_vnni"}},
      {"avx2_vnni_2", "AVX2-VNNI-2", "AVX2_VNNI_2", false, true, true,
       {"avx2", "fma", "avx_vnni", "avx_vnni_int8", "avx_ne_convert"}},
      {"avx512", "AVX-512", "AVX512_CORE", false, false, false, {"avx512f", "avx512bw", "avx512vl", "avx512dq"}},
      {"avx512_vnni", "AVX512-VNNI", "AVX512_CORE_VNNI", false, false, false,
       {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"}},
      {"avx512_bf16", "AVX512-BF16", "AVX512_CORE_BF16", false, true, false,
       {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx512_bf16"}},
      {"avx512_fp16", "AVX512-FP16", "AVX512_CORE_FP16", false, true, true,
       {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx512_bf16", "avx512_fp16"}},
      {"amx", "AMX", "AVX512_CORE_AMX", false, true, true,
       {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile",
        "amx_int8", "amx_bf16"}},
      {"amx_fp16", "AMX-FP16", "AVX512_CORE_AMX_FP16", false, true, true,
       {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile",
        "amx_int8", "amx_bf16", "amx_fp16"}},
      {"neon", "NEON", "", true, false, false, {"asimd"}},
      {"dotprod", "NEON with dot products", "", true, false, true, {"asimd", "asimddp", "asimdhp"}},
      {"i8mm", "NEON with i8mm", "", true, false, true, {"asimd", "asimddp", "asimdhp", "i8mm"}}};
  return table;
}

const TierRecord* find_tier(const std::string& name) {
  for (const TierRecord& tier : tiers()) {
    if (tier.name == name) return &tier;
  }
  return nullptr;
}

std::string strip(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\r"), last = text.find_last_not_of(" \t\r");
  return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

std::vector<std::map<std::string, std::string>> read_processors() {
  std::vector<std::map<std::string, std::string>> processors(1);
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (line.empty()) {
      processors.emplace_back();
    } else if (colon != std::string::npos) {
      processors.back()[strip(line.substr(0, colon))] = strip(line.substr(colon + 1));
    }
  }
  return processors;
}

Flags read_flags() {
#if defined(__linux__) && defined(__aarch64__)
  // the kernel's word to this process; /proc/cpuinfo would be that of the machine below an emulator
  Flags told;
  const unsigned long first = getauxval(16), second = getauxval(26);
  if ((first >> 1 & 1) != 0) told.insert("asimd");
  if ((first >> 10 & 1) != 0) told.insert("asimdhp");
  if ((first >> 20 & 1) != 0) told.insert("asimddp");
  if ((second >> 13 & 1) != 0) told.insert("i8mm");
  if ((second >> 14 & 1) != 0) told.insert("bf16");
  if (!told.empty()) return told;
#endif
  Flags flags;
  bool first_core = true;
  for (const auto& processor : read_processors()) {
    for (const char* key : {"flags", "Features"}) {
      const auto found = processor.find(key);
      if (found == processor.end()) continue;
      std::istringstream words(found->second);
      Flags listed, both;
      for (std::string word; words >> word;) listed.insert(word);
      std::set_intersection(flags.begin(), flags.end(), listed.begin(), listed.end(), std::inserter(both, both.end()));
      flags = first_core ? listed : both;
      first_core = false;
    }
  }
  return flags;
}

/// Whether a limit to `ceiling` leaves `tier` in use.
bool is_within(const TierRecord& tier, const TierRecord& ceiling) {
  if (tier.arm != ceiling.arm) return true;
  Flags able(ceiling.flags.begin(), ceiling.flags.end());
  // what every processor with the ceiling's instructions has besides; AVX2-VNNI is not among it for AVX-512
  const std::string limit = ceiling.limit;
  if (limit == "AVX") able.insert("sse4_1");
  if (limit != "SSE41" && limit != "AVX") able.insert({"sse4_1", "avx", "avx2", "fma"});
  return std::all_of(tier.flags.begin(), tier.flags.end(), [&](const std::string& flag) { return able.count(flag); });
}

/// MIDR_EL1 implementer and part, from util-linux sys-utils/lscpu-arm.c.
const std::map<std::pair<long, long>, const char*>& arm_parts() {
  static const std::map<std::pair<long, long>, const char*> table{
      {{0x41, 0xD03}, "Cortex-A53"},    {{0x41, 0xD04}, "Cortex-A35"},   {{0x41, 0xD05}, "Cortex-A55"},
      {{0x41, 0xD07}, "Cortex-A57"},    {{0x41, 0xD08}, "Cortex-A72"},   {{0x41, 0xD09}, "Cortex-A73"},
      {{0x41, 0xD0A}, "Cortex-A75"},    {{0x41, 0xD0B}, "Cortex-A76"},   {{0x41, 0xD0C}, "Neoverse-N1"},
      {{0x41, 0xD40}, "Neoverse-V1"},   {{0x41, 0xD41}, "Cortex-A78"},   {{0x41, 0xD42}, "Cortex-A78AE"},
      {{0x41, 0xD46}, "Cortex-A510"},   {{0x41, 0xD47}, "Cortex-A710"},  {{0x41, 0xD49}, "Neoverse-N2"},
      {{0x41, 0xD4D}, "Cortex-A715"},   {{0x41, 0xD4F}, "Neoverse-V2"},  {{0x41, 0xD80}, "Cortex-A520"},
      {{0x41, 0xD81}, "Cortex-A720"},   {{0x41, 0xD83}, "Neoverse-V3AE"}, {{0x41, 0xD84}, "Neoverse-V3"},
      {{0x4E, 0x003}, "Denver 2"},      {{0x4E, 0x004}, "Carmel"}};
  return table;
}

}  // namespace

std::vector<std::string> list_tiers(const std::string& limit) {
  const Flags here = read_flags();
  std::string wanted = limit;
  std::transform(wanted.begin(), wanted.end(), wanted.begin(), [](unsigned char c) { return std::toupper(c); });
  // names that stand for instructions which others stand for as well
  if (wanted == "AVX10_1_512") wanted = "AVX512_CORE_FP16";
  if (wanted == "AVX10_1_512_AMX") wanted = "AVX512_CORE_AMX";
  if (wanted == "AVX10_1_512_AMX_FP16") wanted = "AVX512_CORE_AMX_FP16";
  const TierRecord* ceiling = nullptr;
  for (const TierRecord& tier : tiers()) {
    if (!wanted.empty() && wanted == tier.limit) ceiling = &tier;
  }
  std::vector<std::string> able;
  for (const TierRecord& tier : tiers()) {
    const bool has = std::all_of(tier.flags.begin(), tier.flags.end(), [&](const auto& flag) { return here.count(flag); });
    if (has && (ceiling == nullptr || is_within(tier, *ceiling))) able.emplace_back(tier.name);
  }
  return able;
}

std::string read_limit() {
  for (const char* variable : {"ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"}) {
    const char* value = std::getenv(variable);
    if (value != nullptr && *value != '\0') return value;
  }
  return "";
}

std::optional<std::string> read_tier() {
  const std::vector<std::string> able = list_tiers(read_limit());
  return able.empty() ? std::nullopt : std::optional(able.back());
}

std::string name_tier(const std::string& tier) {
  const TierRecord* record = find_tier(tier);
  return record != nullptr ? record->title : tier;
}

bool has_bf16(const std::string& tier) {
  const TierRecord* record = find_tier(tier);
  return record != nullptr && record->bf16;
}

bool has_f16(const std::string& tier) {
  const TierRecord* record = find_tier(tier);
  return record != nullptr && record->f16;
}

std::optional<std::string> read_processor_name() {
  std::vector<std::string> names;
  for (const auto& processor : read_processors()) {
    std::string name;
    if (const auto part = processor.find("CPU part"); part != processor.end()) {
      const auto implementer = processor.find("CPU implementer");
      const long maker = implementer != processor.end() ? std::strtol(implementer->second.c_str(), nullptr, 0) : 0;
      const long number = std::strtol(part->second.c_str(), nullptr, 0);
      std::ostringstream text;
      text << "ARM implementer 0x" << std::hex << maker << " part 0x" << number;
      const auto known = arm_parts().find({maker, number});
      name = known != arm_parts().end() ? known->second : text.str();
    } else if (const auto model = processor.find("model name"); model != processor.end()) {
      std::istringstream words(model->second);
      for (std::string word; words >> word;) name += (name.empty() ? "" : " ") + word;
    }
    if (!name.empty() && std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  std::string joined;
  for (const std::string& name : names) joined += (joined.empty() ? "" : " + ") + name;
  return joined.empty() ? std::nullopt : std::optional(joined);
}

std::string read_architecture() {
#if defined(__x86_64__) || defined(_M_X64)
  return "x86_64";
#elif defined(__aarch64__) || defined(_M_ARM64)
  return "aarch64";
#else
  return "other";
#endif
}

}  // namespace edgevit::detail
