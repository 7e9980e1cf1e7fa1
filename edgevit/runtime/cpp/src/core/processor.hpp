// What the kernel says of the processor: its instruction sets in tiers, and its name; as edgevit/core/isa.py and
// edgevit/runtime/processor_name.py.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace edgevit::detail {

/// The tiers that this process can compute in, from the oldest, within a limit such as AVX2 (empty: none).
std::vector<std::string> list_tiers(const std::string& limit);

/// This process's limit, as oneDNN reads it; empty where there is none.
std::string read_limit();

/// The newest tier within oneDNN's limit; nothing where the system does not tell.
std::optional<std::string> read_tier();

/// For people; the name itself of one that is not known.
std::string name_tier(const std::string& tier);

bool has_bf16(const std::string& tier);
bool has_f16(const std::string& tier);

/// Model name on x86; the core types on Arm.
std::optional<std::string> read_processor_name();

/// "x86_64" or "aarch64": as target profiles call it.
std::string read_architecture();

}  // namespace edgevit::detail
