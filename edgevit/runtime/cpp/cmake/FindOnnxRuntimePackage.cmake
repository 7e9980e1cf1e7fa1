# ONNX Runtime: below ONNXRUNTIME_ROOT (an unpacked release, with include/ and lib/), installed on the system, or the
# library of the pip package of the python3 that is found, which has no headers: give -DONNXRUNTIME_INCLUDE_DIR=… then, the
# folder of onnxruntime_c_api.h (Debian's libonnxruntime-dev has it), of 1.18 or later.
set(ONNXRUNTIME_ROOT "" CACHE PATH "Folder of ONNX Runtime, with include/ and lib/")
find_path(ONNXRUNTIME_INCLUDE_DIR onnxruntime_c_api.h
  HINTS ${ONNXRUNTIME_ROOT}/include PATH_SUFFIXES onnxruntime onnxruntime/core/session)
find_library(ONNXRUNTIME_LIBRARY NAMES onnxruntime libonnxruntime.so.1 HINTS ${ONNXRUNTIME_ROOT}/lib ${ONNXRUNTIME_ROOT})
if(NOT ONNXRUNTIME_LIBRARY AND NOT CMAKE_CROSSCOMPILING) # a package here is for this machine's processor
  find_package(Python3 QUIET COMPONENTS Interpreter)
  if(Python3_FOUND)
    execute_process(
      COMMAND ${Python3_EXECUTABLE} -c "import importlib.util, glob; print(glob.glob(importlib.util.find_spec('onnxruntime').submodule_search_locations[0] + '/capi/libonnxruntime.so.*')[0])"
      OUTPUT_VARIABLE library OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
    if(NOT failed)
      set(ONNXRUNTIME_LIBRARY ${library} CACHE FILEPATH "ONNX Runtime's library" FORCE)
    endif()
  endif()
endif()
if(NOT ONNXRUNTIME_INCLUDE_DIR OR NOT ONNXRUNTIME_LIBRARY)
  message(FATAL_ERROR "Could NOT find ONNX Runtime: give -DONNXRUNTIME_ROOT=…, or -DONNXRUNTIME_INCLUDE_DIR=… and "
    "-DONNXRUNTIME_LIBRARY=… (headers: ${ONNXRUNTIME_INCLUDE_DIR}, library: ${ONNXRUNTIME_LIBRARY})")
endif()

# The loader looks for the name libonnxruntime.so.1, which the pip package has no file of.
get_filename_component(name ${ONNXRUNTIME_LIBRARY} NAME)
get_filename_component(real ${ONNXRUNTIME_LIBRARY} REALPATH)
get_filename_component(folder ${real} DIRECTORY)
set(EDGEVIT_ONNXRUNTIME_LINK "")
if(UNIX AND NOT APPLE AND NOT EXISTS ${folder}/libonnxruntime.so.1)
  set(EDGEVIT_ONNXRUNTIME_LINK ${PROJECT_BINARY_DIR}/onnxruntime/libonnxruntime.so.1)
  set(target "")
  if(IS_SYMLINK ${EDGEVIT_ONNXRUNTIME_LINK})
    file(READ_SYMLINK ${EDGEVIT_ONNXRUNTIME_LINK} target)
  endif()
  if(NOT target STREQUAL real) # making it again would take it away for a moment from programs that start
    file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/onnxruntime)
    file(CREATE_LINK ${real} ${EDGEVIT_ONNXRUNTIME_LINK} SYMBOLIC)
  endif()
  set(real ${EDGEVIT_ONNXRUNTIME_LINK})
endif()
add_library(edgevit_onnxruntime SHARED IMPORTED)
set_target_properties(edgevit_onnxruntime PROPERTIES
  IMPORTED_LOCATION ${real}
  INTERFACE_INCLUDE_DIRECTORIES ${ONNXRUNTIME_INCLUDE_DIR})
