// What a bundle may set of its engine, and what is known of engine libraries and instruction sets, from Python's
// tables.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "bundle/bundle.hpp"
#include "bundle/problems.hpp"

namespace edgevit::detail {

template <typename T>
struct Span {
  const T* rows;
  size_t count;
  const T* begin() const { return rows; }
  const T* end() const { return rows + count; }
};

struct Choices {
  const char* key;
  Span<const char*> values;
};

/// A text, or without one a truth value.
struct PropertyValue {
  const char* text;
  bool truth;
};

struct Property {
  const char* key;
  const PropertyValue* values;
  size_t count;
};

/// An instruction set that a library does not run under, and why.
struct Lack {
  const char* tier;
  const char* reason;
};

struct Library {
  const char* name;
  bool cpu;
  bool nvidia;
  Span<const char*> devices;
  Span<Property> properties;
  Span<Lack> lacks;
};

struct Tier {
  const char* name;
  const char* architecture;
};

#include "bundle/settings_table.inc"

/// By its name; null of one that is not known.
const Library* find_library(const std::string& name);

/// Whether a list has a text.
bool contains(const Span<const char*>& list, const std::string& text);

/// Refuses settings that a bundle may not have. Of a library that is not known nothing is checked: it is not opened
/// either. Throws Failure, EDGEVIT_UNSAFE, with every such setting; `where` says whose they are.
void check_settings(const Settings& settings, const std::string& backend, const std::string& where);

}  // namespace edgevit::detail
