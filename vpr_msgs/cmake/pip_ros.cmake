# Lets CMake find the ros-* wheels of PyPI. Only pip includes this file (pyproject.toml); a ROS installation needs none of it.

if(NOT DEFINED Python3_EXECUTABLE)
  set(Python3_EXECUTABLE "${PYTHON_EXECUTABLE}" CACHE FILEPATH "")
endif()

# The wheels install into the prefix of their environment; in pip's isolated builds that is a temporary folder.
execute_process(
  COMMAND "${Python3_EXECUTABLE}" -c
    "import pathlib, rosidl_pycommon; print(pathlib.Path(rosidl_pycommon.__file__).parents[4])"
  OUTPUT_VARIABLE ros_prefix
  OUTPUT_STRIP_TRAILING_WHITESPACE
  COMMAND_ERROR_IS_FATAL ANY
)
message(STATUS "ROS wheels in ${ros_prefix}")
list(PREPEND CMAKE_PREFIX_PATH "${ros_prefix}")
set(ENV{AMENT_PREFIX_PATH} "${ros_prefix}")

# Some exported targets name include directories of the container that built the wheels, which CMake refuses at generation.
function(vpr_drop_missing_includes)
  get_property(targets DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}" PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(includes ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT includes)
      continue()
    endif()
    set(existing "")
    foreach(include IN LISTS includes)
      if(NOT IS_ABSOLUTE "${include}" OR EXISTS "${include}")
        list(APPEND existing "${include}")
      endif()
    endforeach()
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${existing}")
  endforeach()
endfunction()
cmake_language(DEFER CALL vpr_drop_missing_includes)
