// docker buildx bake            builds both images
// TAG=1.2.3 REGISTRY=registry.example.org/team/ docker buildx bake --push

variable "TAG" {
  default = "dev"
}

variable "REGISTRY" {
  default = ""
}

variable "BASE_IMAGE" {
  default = "debian:trixie-slim"
}

// For runner-baked, which is built only when asked for: docker buildx bake runner-baked
variable "MODELS" {
  default = "openai/whisper-base"
}

variable "HF_ENDPOINT" {
  default = ""
}

group "default" {
  targets = ["operator", "runner"]
}

target "common" {
  context    = "."
  dockerfile = "Dockerfile"
  platforms  = ["linux/amd64"]
  args = {
    BASE_IMAGE = BASE_IMAGE
  }
  labels = {
    "org.opencontainers.image.version" = TAG
  }
}

target "operator" {
  inherits = ["common"]
  target   = "operator"
  tags     = ["${REGISTRY}transcription-operator:${TAG}"]
}

target "runner" {
  inherits = ["common"]
  target   = "runner"
  tags     = ["${REGISTRY}transcription-runner:${TAG}"]
}

// MODELS="openai/whisper-large-v3" docker buildx bake runner-baked
target "runner-baked" {
  inherits = ["common"]
  target   = "runner-baked"
  args = {
    MODELS      = MODELS
    HF_ENDPOINT = HF_ENDPOINT
  }
  tags = ["${REGISTRY}transcription-runner:${TAG}-baked"]
}
