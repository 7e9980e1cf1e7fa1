// Form: what a key of the manifest may hold. The tables are written from Python's dataclasses.
#pragma once

#include <cstddef>
#include <string>

#include "bundle/json_value.hpp"
#include "bundle/problems.hpp"

namespace edgevit::detail {

struct Field;

struct Form {
  enum Kind { any, text, whole, number, truth, choice, list, fixed, table, optional, either, record };

  Kind kind;
  const void* parts = nullptr;  // texts of a choice, fields of a record, forms of what is within anything else
  size_t count = 0;

  const char* choice_at(size_t i) const { return static_cast<const char* const*>(parts)[i]; }
  const Form& form_at(size_t i) const { return *static_cast<const Form* const*>(parts)[i]; }
  const Field& field_at(size_t i) const;
};

struct Field {
  const char* name;
  const Form* form;
  bool needed;
};

#include "bundle/schema_table.inc"

/// What does not fit the form, one sentence each, as `edgevit.core.schema.from_data` says it.
Problems find_misfits(const Form& form, const Value& value);

}  // namespace edgevit::detail
