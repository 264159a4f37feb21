// Which variants of the operators this machine runs.
#pragma once
#include <string>
#include <vector>

#include "operators.h"

namespace apprentice {

// Fastest first; `portable` is always the last.
const std::vector<const Operators*>& usable_variants();
// nullptr where this machine or this build lacks it.
const Operators* find_variant(const std::string& name);

}  // namespace apprentice
