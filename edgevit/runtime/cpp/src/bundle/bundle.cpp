#include "bundle/bundle.hpp"

#include "bundle/canary_file.hpp"
#include "bundle/engine_files.hpp"
#include "bundle/files.hpp"
#include "bundle/manifest_reader.hpp"
#include "bundle/problems.hpp"
#include "bundle/signature.hpp"
#include "failure.hpp"

namespace edgevit::detail {

struct Bundle::Parts {
  std::string path;
  std::unique_ptr<Source> source;
  Manifest manifest;
  std::map<std::string, FilePart> files;
};

namespace {

std::string read_manifest(const Source& source, const std::string& path) {
  const std::string file = path + "/" + kManifestFile;
  const Found found = source.find(kManifestFile);
  switch (found.state) {
    case Found::State::missing:
      throw Failure(EDGEVIT_NOT_A_BUNDLE, path + " is not a bundle: it has no " + kManifestFile,
                    "give the folder that edgevit build wrote, or a file that edgevit pack made of it");
    case Found::State::irregular:
      throw Failure(EDGEVIT_UNSAFE, file + " is a link, a folder or a device, not a file", "build the bundle again");
    case Found::State::unreadable:
      throw Failure(EDGEVIT_NOT_A_BUNDLE, file + " cannot be read: " + found.reason, "check its permissions");
    case Found::State::here: break;
  }
  if (found.part->size() > kMostManifestBytes) {
    throw Failure(EDGEVIT_MANIFEST,
                  file + " is too large: it has " + std::to_string(found.part->size()) + " bytes, and " +
                      std::to_string(kMostManifestBytes) + " are the most",
                  "build the bundle again");
  }
  return found.part->read_text(kMostManifestBytes);
}

/// Into a folder a system may put files of its own, but nothing comes into a packed bundle by chance.
void refuse_unlisted(const Source& source, const Manifest& manifest, const std::string& path) {
  Problems unlisted;
  for (const std::string& name : source.list_names()) {
    const bool own = name == kManifestFile || name == kSignatureFile;
    unlisted.add_if(!own && manifest.files.count(name) == 0, show_name(name));
  }
  if (unlisted.empty()) return;
  throw Failure(EDGEVIT_UNSAFE, path + " holds files that its manifest does not list:\n" + unlisted.list(),
                std::string("delete ") + (unlisted.count() == 1 ? "it" : "them") +
                    " from the bundle's folder, and pack that again");
}

/// Every listed file, open; what is not as the manifest says is listed in one error.
std::map<std::string, FilePart> open_files(const Source& source, const Manifest& manifest, const std::string& path,
                                           bool contents) {
  std::map<std::string, FilePart> files;
  Problems damage;
  bool irregular = false;
  for (const auto& [name, record] : manifest.files) {
    const std::string expected = std::to_string(record.size_bytes) + " bytes";
    const Found found = source.find(name);
    if (found.state == Found::State::missing) {
      damage.add(show_name(name) + ": missing; the manifest lists it with " + expected);
    } else if (found.state == Found::State::irregular) {
      damage.add(show_name(name) + ": a link, a folder or a device, not a file of the bundle's own");
      irregular = true;
    } else if (found.state == Found::State::unreadable) {
      damage.add(show_name(name) + ": cannot be read: " + found.reason);
    } else if (found.part->size() != record.size_bytes) {
      damage.add(show_name(name) + ": " + std::to_string(found.part->size()) + " bytes, the manifest says " + expected);
    } else {
      const std::string digest = contents ? found.part->hash() : record.sha256;
      damage.add_if(digest != record.sha256,
                    show_name(name) + ": SHA-256 " + digest + ", the manifest says " + record.sha256);
      files.emplace(name, *found.part);
    }
  }
  if (damage.empty()) return files;
  const std::string count = damage.count() > 1 ? std::to_string(damage.count()) + " files are" : "a file is";
  throw Failure(irregular ? EDGEVIT_UNSAFE : EDGEVIT_DAMAGED, path + ": " + count + " not as built:\n" + damage.list(),
                "copy the bundle again, or build it again");
}

}  // namespace

Bundle::Bundle(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Bundle::Bundle(Bundle&&) noexcept = default;
Bundle& Bundle::operator=(Bundle&&) noexcept = default;
Bundle::~Bundle() = default;

Bundle Bundle::open(const std::string& path, const BundleOptions& options) {
  auto parts = std::make_unique<Parts>();
  parts->path = path;
  parts->source = open_source(path);
  const std::string content = read_manifest(*parts->source, path);
  if (options.public_key) check_signature(*parts->source, path, content, *options.public_key);
  parts->manifest = parse_manifest(content, path);
  refuse_unlisted(*parts->source, parts->manifest, path);
  if (options.needs_engine && !parts->manifest.engine) {
    throw Failure(EDGEVIT_PORTABLE,
                  path + " is a portable bundle for " + parts->manifest.target_title + ": it has no engine yet",
                  "run `edgevit finish` with it on the device, and ship what that writes");
  }
  const bool contents = options.verify || options.public_key.has_value();
  parts->files = open_files(*parts->source, parts->manifest, path, contents);
  Bundle bundle(std::move(parts));
  check_engine_files(bundle, *bundle.parts_->source);
  return bundle;
}

const Manifest& Bundle::manifest() const noexcept { return parts_->manifest; }

const std::string& Bundle::path() const noexcept { return parts_->path; }

std::shared_ptr<const Bytes> Bundle::map(const std::string& name) const {
  const auto file = parts_->files.find(name);
  if (file == parts_->files.end()) {
    throw Failure(EDGEVIT_UNSAFE, parts_->path + ": the manifest lists no file " + show_name(name),
                  "build the bundle again");
  }
  return file->second.map();
}

std::optional<std::string> Bundle::file_path(const std::string& name) const {
  if (parts_->source->packed() || parts_->files.count(name) == 0) return std::nullopt;
  return parts_->path + "/" + name;
}

Canary Bundle::read_canary() const {
  const std::string path = parts_->path + "/" + kCanaryFile;
  const auto file = parts_->files.find(kCanaryFile);
  if (!parts_->manifest.canary || file == parts_->files.end()) {
    throw Failure(EDGEVIT_DAMAGED, parts_->path + " has no canary", "build the bundle again");
  }
  return read_canary_file(file->second, parts_->manifest, path);
}

}  // namespace edgevit::detail
