{{- define "proxy.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "proxy.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "proxy.labels" -}}
{{ include "proxy.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "proxy.image" -}}
{{- $repository := required "image.repository: is missing: there is no public image. Build one (make packages, docs/packages.md), push it, and name it here" .Values.image.repository -}}
{{- if .Values.image.digest }}{{ $repository }}@{{ .Values.image.digest }}
{{- else }}{{ $repository }}:{{ required "image.tag: is missing: name the version that was pushed, or image.digest" .Values.image.tag }}{{ end }}
{{- end }}

{{- define "proxy.tlsSecret" -}}
{{- if .Values.certificate.secretName }}{{ .Values.certificate.secretName }}
{{- else if .Values.certificate.certManager.enabled }}{{ include "proxy.name" . }}-tls{{ end }}
{{- end }}

{{/* The configuration file: what follows from the values, under what config says. */}}
{{- define "proxy.config" -}}
{{- $given := deepCopy .Values.config }}
{{- if (dig "timeouts" "drain" "" $given) }}{{ fail "config.timeouts.drain: set drainSeconds instead: the grace period of the pod follows from it" }}{{ end }}
{{- if (dig "admin" "bind" "" $given) }}{{ fail "config.admin.bind: leave it out: the probes need the admin port at 9090" }}{{ end }}
{{- $clusters := dict }}
{{- range $name, $c := .Values.clusters }}
{{- $_ := set $clusters $name (dict "sni-suffix" $c.sniSuffix "upstream" $c.upstream) }}
{{- end }}
{{- $listener := dict "bind" "0.0.0.0:9092" "certificates" (list (dict "cert" "/etc/kafka-sni-proxy/tls/tls.crt" "key" "/etc/kafka-sni-proxy/tls/tls.key")) }}
{{- if ne (int .Values.service.port) 9092 }}{{ $_ := set $listener "advertised-port" (int .Values.service.port) }}{{ end }}
{{- if .Values.service.proxyProtocol }}
{{- if not .Values.service.proxyProtocolFrom }}{{ fail "service.proxyProtocolFrom: is missing: list the networks of the balancer, as in [10.0.0.0/8]: the header of anybody else is refused" }}{{ end }}
{{- $_ := set $listener "proxy-protocol" (dict "from" .Values.service.proxyProtocolFrom) }}
{{- end }}
{{- $admin := dict "bind" "0.0.0.0:9090" }}
{{- if .Values.admin.tokenSecret.name }}
{{- if (dig "admin" "token-file" "" $given) }}{{ fail "config.admin.token-file: leave it out: admin.tokenSecret sets it" }}{{ end }}
{{- $_ := set $admin "token-file" "/etc/kafka-sni-proxy/admin-token/token" }}
{{- end }}
{{- $made := dict "admin" $admin "timeouts" (dict "drain" (printf "%ds" (int .Values.drainSeconds))) "log" (dict "format" "json") "clusters" $clusters }}
{{- if not (hasKey $given "listeners") }}
{{- if not (include "proxy.tlsSecret" .) }}{{ fail "certificate.secretName: is missing: name a secret of type kubernetes.io/tls, or set certificate.certManager.enabled" }}{{ end }}
{{- $_ := set $made "listeners" (list $listener) }}
{{- end }}
{{- $config := mustMergeOverwrite $made $given }}
{{- if not $config.clusters }}{{ fail "clusters: is missing: give at least one, as in {orders: {sniSuffix: kafka.example, upstream: [host:9092]}}" }}{{ end }}
{{- toYaml $config }}
{{- end }}

{{/* Whether the admin port speaks TLS: "true", or nothing. */}}
{{- define "proxy.adminTLS" -}}
{{- if dig "admin" "cert" "" .Values.config }}true{{ end }}
{{- end }}

{{/* What a probe asks: the path is given. */}}
{{- define "proxy.probe" -}}
{path: {{ .path }}, port: admin{{ if include "proxy.adminTLS" .root }}, scheme: HTTPS{{ end }}}
{{- end }}

{{/* The names that a certificate has to cover, and that a route leads here: a line each. */}}
{{- define "proxy.dnsNames" -}}
{{- $config := include "proxy.config" . | fromYaml }}
{{- $all := list }}
{{- range $name, $c := $config.clusters }}
{{- with (get $c "sni-suffix") }}{{ $all = concat $all (list (printf "*.%s" .)) }}{{ end }}
{{- with $c.names }}
{{- $domain := regexReplaceAll "^[^.]*\\." .broker "" }}
{{- $all = concat $all (list .bootstrap (printf "*.%s" $domain)) }}
{{- end }}
{{- end }}
{{- join "\n" (uniq $all | sortAlpha) }}
{{- end }}

{{- define "proxy.grace" -}}
{{- $least := add .Values.drainSeconds .Values.preStopSeconds 5 }}
{{- $grace := .Values.terminationGracePeriodSeconds | default (add $least 5) | int }}
{{- if lt $grace (int $least) }}{{ fail (printf "terminationGracePeriodSeconds: %d is too short: preStopSeconds and drainSeconds want %d at least, or requests in flight are cut" $grace $least) }}{{ end }}
{{- $grace }}
{{- end }}
