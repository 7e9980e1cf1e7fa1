# OpenVINO: where OpenVINO_DIR says, installed on the system, or else in the pip package of the python3 that is found,
# which has headers, libraries and CMake's files. Give -DPython3_EXECUTABLE=… for another python3.
find_package(OpenVINO QUIET COMPONENTS Runtime)
if(NOT OpenVINO_FOUND)
  if(NOT CMAKE_CROSSCOMPILING) # a package here is for this machine's processor
    find_package(Python3 QUIET COMPONENTS Interpreter)
  endif()
  if(Python3_FOUND)
    execute_process(
      COMMAND ${Python3_EXECUTABLE} -c "import importlib.util; print(importlib.util.find_spec('openvino').submodule_search_locations[0])"
      OUTPUT_VARIABLE package OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
    if(NOT failed)
      set(OpenVINO_DIR ${package}/cmake CACHE PATH "Folder of OpenVINOConfig.cmake" FORCE)
    endif()
  endif()
  find_package(OpenVINO REQUIRED COMPONENTS Runtime)
endif()
