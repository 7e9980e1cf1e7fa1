# Compiling for 64-bit Arm with Debian's aarch64-linux-gnu-g++: -DCMAKE_TOOLCHAIN_FILE=…/aarch64-linux-gnu.cmake. The
# libraries are those of -DCMAKE_SYSROOT=…, a copy of the board's files, or Debian's for arm64 on this machine.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
# otherwise FindOpenSSL is told of this machine's own
set(ENV{PKG_CONFIG_LIBDIR} ${CMAKE_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig)
