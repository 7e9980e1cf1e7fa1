// ONNX Runtime 1.$EDGEVIT_DOUBLE_RELEASE without sessions: it gives the versions of its interface up to its own.
#include <onnxruntime_c_api.h>
#include <stdio.h>
#include <stdlib.h>

static OrtApi api;

static unsigned read_release(void) { return (unsigned)atoi(getenv("EDGEVIT_DOUBLE_RELEASE")); }

static OrtStatus* ORT_API_CALL refuse(OrtSessionOptions** options) {
  *options = NULL;
  return (OrtStatus*)&api;
}

static const char* ORT_API_CALL tell(const OrtStatus* status) {
  (void)status;
  return "the double has no sessions";
}

static void ORT_API_CALL forget(OrtStatus* status) { (void)status; }

static const OrtApi* ORT_API_CALL get_api(uint32_t version) { return version <= read_release() ? &api : NULL; }

static const char* ORT_API_CALL get_version(void) {
  static char text[32];
  snprintf(text, sizeof text, "1.%u.0", read_release());
  return text;
}

__attribute__((visibility("default"))) const OrtApiBase* ORT_API_CALL OrtGetApiBase(void) {
  static const OrtApiBase base = {get_api, get_version};
  api.CreateSessionOptions = refuse;
  api.GetErrorMessage = tell;
  api.ReleaseStatus = forget;
  return &base;
}
