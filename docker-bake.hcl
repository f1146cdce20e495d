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
