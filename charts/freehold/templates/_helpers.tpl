{{/* Labels of everything that the chart installs as a program. */}}
{{- define "freehold.labels" -}}
app.kubernetes.io/part-of: freehold
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end }}

{{/* An image of ours: (dict "root" . "name" "operator"). */}}
{{- define "freehold.image" -}}
{{- $root := .root -}}
{{ printf "%s/%s:%s" $root.Values.global.imageRegistry .name ($root.Values.image.tag | default $root.Chart.AppVersion) | quote }}
{{- end }}
