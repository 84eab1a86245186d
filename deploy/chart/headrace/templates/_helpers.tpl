{{- /* Labels of everything here. */}}
{{- define "headrace.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- with .Values.monitoring.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Which of them, and where: (dict "selector" "namespaces"). */}}
{{- define "headrace.watched" -}}
selector:
  matchLabels:
    {{- toYaml .selector | nindent 4 }}
{{- with .namespaces }}
namespaceSelector:
  matchNames:
    {{- toYaml . | nindent 4 }}
{{- end }}
{{- end }}

{{- /* How metrics are fetched; the rules know each job by its name: (list CONTEXT JOB PORT PATH). */}}
{{- define "headrace.endpoint" -}}
{{- $root := index . 0 -}}
- port: {{ index . 2 }}
  path: {{ index . 3 }}
  interval: {{ $root.Values.monitoring.interval }}
  relabelings:
    - targetLabel: job
      replacement: {{ index . 1 }}
      action: replace
{{- end }}
