#include "pixels/preprocessor.hpp"
