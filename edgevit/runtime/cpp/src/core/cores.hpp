// How many CPU cores this process may use; as edgevit/core/cores.py.
#pragma once

#include <string>

namespace edgevit::detail {

/// Logical cores that this process may run on.
int count_logical_cores();

/// Physical cores behind them; where the system does not tell, the logical ones.
int count_physical_cores();

/// Threads for one batch at a time: one a core, but both of each core where there are no more than two.
int choose_threads();

}  // namespace edgevit::detail
