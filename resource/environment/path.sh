_colcon_prepend_unique_value PATH "$COLCON_CURRENT_PREFIX/lib/vpr_ros"
