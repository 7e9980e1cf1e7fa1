#include "bundle/bundle.hpp"
