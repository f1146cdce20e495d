{{- define "operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "operator.serviceAccountName" -}}
{{- default (include "operator.fullname" .) .Values.operator.serviceAccount.name -}}
{{- end -}}

{{/* What a selector may use: it never changes from one version to the next. */}}
{{- define "operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "operator.labels" -}}
{{ include "operator.selectorLabels" . }}
app.kubernetes.io/part-of: transcription-operator
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* An image's reference: (dict "image" .Values.x.image "context" $). */}}
{{- define "operator.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .context.Chart.AppVersion .image.tag | toString) -}}
{{- end -}}
{{- end -}}

{{/* The shared volume's source, without those that another values file has set to null. */}}
{{- define "operator.volume" -}}
{{- $volume := dict -}}
{{- range $key, $value := .Values.cache.volume -}}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $volume $key $value }}{{ end -}}
{{- end -}}
{{- toYaml $volume -}}
{{- end -}}

{{/* The settings file of docs/contracts.md. Also the place that refuses what no schema can say in good words. */}}
{{- define "operator.settings" -}}
{{- $volume := include "operator.volume" . | fromYaml -}}
{{- if and $volume .Values.cache.storageClassName -}}
{{- fail (printf "\n\ncache.volume (%s) and cache.storageClassName (%s): keep one of them\n" (keys $volume | sortAlpha | join ", ") .Values.cache.storageClassName) -}}
{{- end -}}
{{- if not (or $volume .Values.cache.storageClassName .Values.runner.bakedModels) -}}
{{- fail "\n\ncache.volume is missing: say where the shared volume is, for models and transcripts. For example\n  --values examples/nfs.yaml   (or efs.yaml, filestore.yaml, local.yaml, hostpath.yaml, in the chart's folder), or\n  --values examples/storageclass.yaml   (a storage class makes it), or\n  --set cache.volume.hostPath.path=/srv/transcription   (one node, or a folder that every node mounts)\nAn image with models inside needs none: --values examples/baked.yaml\n" -}}
{{- end -}}
{{- if gt (len $volume) 1 -}}
{{- fail (printf "\n\ncache.volume names %d volumes (%s): keep one, and set the others to null if they come from another values file\n" (len $volume) (keys $volume | sortAlpha | join ", ")) -}}
{{- end -}}
{{- $cache := dict
  "size" .Values.cache.size
  "volume" $volume
  "storageClassName" .Values.cache.storageClassName
  "volumeHandles" .Values.cache.volumeHandles
  "accessModes" .Values.cache.accessModes
  "mountOptions" .Values.cache.mountOptions
  "nodeAffinity" .Values.cache.nodeAffinity -}}
{{- $runner := dict
  "env" .Values.runner.env
  "resources" .Values.runner.resources
  "downloadResources" .Values.runner.downloadResources
  "backoffLimit" (int64 .Values.runner.backoffLimit)
  "reportPatienceSeconds" (int64 .Values.runner.reportPatienceSeconds)
  "caBundle" .Values.runner.caBundle -}}
{{- dict
  "namespace" .Release.Namespace
  "runnerImage" (include "operator.image" (dict "image" .Values.runner.image "context" .))
  "imagePullPolicy" .Values.runner.image.pullPolicy
  "imagePullSecrets" .Values.imagePullSecrets
  "cache" $cache
  "inlineLimitBytes" (int64 .Values.inlineLimitBytes)
  "runner" $runner
  "hub" .Values.hub
  "bakedModels" .Values.runner.bakedModels
  "models" .Values.models
  "retention" (dict "unusedDays" (int64 .Values.retention.unusedDays) "dryRun" .Values.retention.dryRun)
  | toYaml -}}
{{- end -}}
