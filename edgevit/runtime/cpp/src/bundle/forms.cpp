#include "bundle/forms.hpp"

namespace edgevit::detail {

namespace {

std::string show(const Value& value) {
  const std::string text = dump_json(value, {}, 200);
  return text.size() <= 200 ? text : text.substr(0, 200) + " …";
}

const char* name_kind(Form::Kind kind) {
  switch (kind) {
    case Form::text: return "a text";
    case Form::whole: return "a whole number";
    case Form::number: return "a number";
    case Form::truth: return "true or false";
    case Form::list:
    case Form::fixed: return "a list";
    default: return "a table";
  }
}

bool fits(Form::Kind kind, const Value& value) {
  using Type = Value::Type;
  switch (kind) {
    case Form::text: return value.type() == Type::text;
    case Form::whole: return value.type() == Type::whole;
    case Form::number: return value.type() == Type::whole || value.type() == Type::real;
    case Form::truth: return value.type() == Type::truth;
    case Form::list:
    case Form::fixed: return value.type() == Type::list;
    default: return value.type() == Type::table;
  }
}

void check(const Form& form, const Value& value, const std::string& path, Problems& problems);

void check_record(const Form& form, const Value& value, const std::string& path, Problems& problems) {
  const std::string prefix = path.empty() ? "" : path + ".";
  for (const std::string& key : value.keys()) {
    bool known = false;
    for (size_t i = 0; i < form.count; ++i) known = known || key == form.field_at(i).name;
    if (!known) problems.add("unknown key " + prefix + show_name(key));
  }
  for (size_t i = 0; i < form.count; ++i) {
    const Field& field = form.field_at(i);
    if (const Value* found = value.find(field.name)) {
      check(*field.form, *found, prefix + field.name, problems);
    } else if (field.needed) {
      problems.add("missing key " + prefix + field.name);
    }
  }
}

void check_choice(const Form& form, const Value& value, const std::string& path, Problems& problems) {
  std::string valid;
  for (size_t i = 0; i < form.count; ++i) {
    if (value.is_text() && value.text() == form.choice_at(i)) return;
    valid += (i > 0 ? ", '" : "'") + std::string(form.choice_at(i)) + "'";
  }
  problems.add(path + " = " + show(value) + " is not one of " + valid);
}

void check_either(const Form& form, const Value& value, const std::string& path, Problems& problems) {
  std::string all;
  for (size_t i = 0; i < form.count; ++i) {
    Problems attempt;
    check(form.form_at(i), value, path, attempt);
    if (attempt.empty()) return;
    all += (i > 0 ? " or " : "") + attempt.first();
  }
  problems.add(all);
}

void check(const Form& form, const Value& value, const std::string& path, Problems& problems) {
  const auto& items = value.items();
  switch (form.kind) {
    case Form::any: return;
    case Form::choice: check_choice(form, value, path, problems); return;
    case Form::either: check_either(form, value, path, problems); return;
    case Form::optional:
      if (value.type() != Value::Type::null) check(form.form_at(0), value, path, problems);
      return;
    default: break;
  }
  if (!fits(form.kind, value)) {
    problems.add((path.empty() ? "the document" : path) + " = " + show(value) + " is not " + name_kind(form.kind));
    return;
  }
  if (form.kind == Form::fixed && items.size() != form.count) {
    problems.add(path + " = " + show(value) + " has " + std::to_string(items.size()) + " values, not " +
                 std::to_string(form.count));
    return;
  }
  if (form.kind == Form::record) return check_record(form, value, path, problems);
  for (size_t i = 0; i < items.size() && (form.kind == Form::list || form.kind == Form::fixed); ++i) {
    const Form& inner = form.form_at(form.kind == Form::list ? 0 : i);
    check(inner, items[i], path + "[" + std::to_string(i) + "]", problems);
  }
  for (size_t i = 0; i < items.size() && form.kind == Form::table; ++i) {
    check(form.form_at(0), items[i], path + "." + show_name(value.keys()[i]), problems);
  }
}

}  // namespace

const Field& Form::field_at(size_t i) const { return static_cast<const Field*>(parts)[i]; }

Problems find_misfits(const Form& form, const Value& value) {
  Problems problems;
  check(form, value, "", problems);
  return problems;
}

}  // namespace edgevit::detail
