#include "core/cores.hpp"

#include <fstream>
#include <set>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace edgevit::detail {

#if defined(__linux__)

int count_logical_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return static_cast<int>(std::thread::hardware_concurrency());
  return CPU_COUNT(&set);
}

int count_physical_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return count_logical_cores();
  std::set<std::string> siblings;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &set)) continue;
    std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
    std::string line;
    if (!std::getline(file, line)) return count_logical_cores();
    siblings.insert(line);
  }
  return static_cast<int>(siblings.size());
}

#else

int count_logical_cores() {
  const unsigned count = std::thread::hardware_concurrency();
  return count > 0 ? static_cast<int>(count) : 1;
}

int count_physical_cores() { return count_logical_cores(); }

#endif

int choose_threads() {
  const int physical = count_physical_cores();
  return physical <= 2 ? count_logical_cores() : physical;
}

}  // namespace edgevit::detail
