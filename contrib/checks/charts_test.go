// Package checks renders the Helm chart and the Kustomize manifests, decodes each object into
// the types of the API that it is for, and checks that the objects fit each other and the
// program. It is a module of its own: nothing of Kubernetes comes into the proxy's.
package checks

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files, and the Kustomize base")

const (
	chartDir = "../helm/kafka-sni-proxy"
	baseFile = "../kustomize/base/kafka-sni-proxy.yaml"
)

// render renders the chart with values.
func render(values map[string]any) (text, notes string, err error) {
	chart, err := loader.Load(chartDir)
	if err != nil {
		return "", "", err
	}
	capabilities := chartutil.DefaultCapabilities.Copy()
	all, err := chartutil.ToRenderValues(chart, values, chartutil.ReleaseOptions{Name: "edge", Namespace: "streams", Revision: 1, IsInstall: true}, capabilities)
	if err != nil {
		return "", "", err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return "", "", err
	}
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	var documents []string
	for _, name := range names {
		switch {
		case strings.HasSuffix(name, "NOTES.txt"):
			notes = files[name]
		case strings.HasSuffix(name, ".yaml"):
			for document := range strings.SplitSeq(files[name], "\n---\n") {
				document = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(document), "---"))
				if document != "" {
					documents = append(documents, document+"\n")
				}
			}
		}
	}
	return strings.Join(documents, "\n---\n"), notes, nil
}

func valuesOf(t *testing.T, set string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "values", set+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	values, err := chartutil.ReadValues(text)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

var sets = []string{"minimal", "aws", "gcp", "everything", "ports"}

// objects are what a rendering has of each kind.
type objects struct {
	deployment *appsv1.Deployment
	services   []*corev1.Service
	config     *corev1.ConfigMap
	budget     *policyv1.PodDisruptionBudget
	autoscaler *autoscalingv2.HorizontalPodAutoscaler
	policy     *networkingv1.NetworkPolicy
	monitor    *monitoringv1.ServiceMonitor
	rule       *monitoringv1.PrometheusRule
	dashboard  *corev1.ConfigMap
	cert       *certmanagerv1.Certificate
	route      *gatewayv1.TLSRoute
}

// keep makes an object, and keeps it.
func keep[T any](to **T) any {
	*to = new(T)
	return *to
}

// decode decodes all objects strictly.
func decode(t *testing.T, text string) *objects {
	t.Helper()
	o := &objects{}
	for document := range strings.SplitSeq(text, "\n---\n") {
		var meta metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(document), &meta); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		var into any
		switch meta.APIVersion + "/" + meta.Kind {
		case "apps/v1/Deployment":
			into = keep(&o.deployment)
		case "v1/ConfigMap":
			if strings.Contains(document, "grafana_dashboard:") {
				into = keep(&o.dashboard)
			} else {
				into = keep(&o.config)
			}
		case "policy/v1/PodDisruptionBudget":
			into = keep(&o.budget)
		case "autoscaling/v2/HorizontalPodAutoscaler":
			into = keep(&o.autoscaler)
		case "networking.k8s.io/v1/NetworkPolicy":
			into = keep(&o.policy)
		case "monitoring.coreos.com/v1/ServiceMonitor":
			into = keep(&o.monitor)
		case "monitoring.coreos.com/v1/PrometheusRule":
			into = keep(&o.rule)
		case "cert-manager.io/v1/Certificate":
			into = keep(&o.cert)
		case "gateway.networking.k8s.io/v1/TLSRoute":
			into = keep(&o.route)
		case "v1/Service":
			o.services = append(o.services, nil)
			into = keep(&o.services[len(o.services)-1])
		default:
			t.Errorf("nobody knows the object %s %s", meta.APIVersion, meta.Kind)
			continue
		}
		if err := yaml.UnmarshalStrict([]byte(document), into); err != nil {
			t.Errorf("%s: %v in\n%s", meta.Kind, err, document)
		}
	}
	return o
}

func rendered(t *testing.T, set string) *objects {
	t.Helper()
	text, _, err := render(valuesOf(t, set))
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, text)
}

func TestRenderingsAreAsTheyWere(t *testing.T) {
	if *update {
		copies(t, true)
	}
	for _, set := range sets {
		text, notes, err := render(valuesOf(t, set))
		if err != nil {
			t.Errorf("%s: %v", set, err)
			continue
		}
		golden := filepath.Join("testdata", "golden", set+".yaml")
		if *update {
			if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want, err := os.ReadFile(golden); err != nil || string(want) != text {
			t.Errorf("%s differs (%v): look at what has changed, then go test . -update", golden, err)
		}
		if !strings.Contains(notes, "check --as-client") {
			t.Errorf("%s: the notes are\n%s", set, notes)
		}
	}
}

// Both releases of the Kubernetes API have all fields that are used.
func TestObjectsAreOfTwoReleasesOfKubernetes(t *testing.T) {
	for _, modules := range []string{"go.mod", "older.mod"} {
		program := filepath.Join(t.TempDir(), "core")
		if out, err := exec.CommandContext(t.Context(), "go", "build", "-modfile="+modules, "-o", program, "./core").CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", modules, err, out)
		}
		for _, set := range sets {
			text, _, err := render(valuesOf(t, set))
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), program)
			cmd.Stdin = strings.NewReader(text)
			if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) < "4" {
				t.Errorf("%s, %s: %v\n%s", modules, set, err, out)
			}
		}
	}
}

func TestHelmFindsNothingToLint(t *testing.T) {
	for _, set := range sets {
		lint := action.NewLint()
		lint.Strict = true
		result := lint.Run([]string{chartDir}, valuesOf(t, set))
		for _, err := range result.Errors {
			t.Errorf("%s: %v", set, err)
		}
		for _, m := range result.Messages {
			if m.Severity > 1 {
				t.Errorf("%s: %v", set, m)
			}
		}
	}
}

func TestObjectsFitEachOther(t *testing.T) {
	for _, set := range sets {
		t.Run(set, func(t *testing.T) {
			o := rendered(t, set)
			pod := o.deployment.Spec.Template
			container := pod.Spec.Containers[0]
			ports := map[string]bool{}
			for _, p := range container.Ports {
				if ports[p.Name] {
					t.Errorf("two ports are called %s", p.Name)
				}
				ports[p.Name] = true
			}
			selects := func(who string, selector labels.Selector) {
				if !selector.Matches(labels.Set(pod.Labels)) {
					t.Errorf("%s selects other pods: %v", who, selector)
				}
			}
			selects("the Deployment", asSelector(t, o.deployment.Spec.Selector))
			for _, s := range o.services {
				selects("the Service "+s.Name, labels.SelectorFromSet(s.Spec.Selector))
				for _, p := range s.Spec.Ports {
					if !ports[p.TargetPort.String()] {
						t.Errorf("the Service %s has the port %s, which the pod has not", s.Name, p.TargetPort.String())
					}
				}
			}
			if o.budget != nil {
				selects("the PodDisruptionBudget", asSelector(t, o.budget.Spec.Selector))
			}
			if o.policy != nil {
				selects("the NetworkPolicy", asSelector(t, &o.policy.Spec.PodSelector))
				checkPolicy(t, o.policy, container)
			}
			if o.monitor != nil {
				found := 0
				for _, s := range o.services {
					if asSelector(t, &o.monitor.Spec.Selector).Matches(labels.Set(s.Labels)) {
						found++
						if s.Spec.Ports[0].Name != o.monitor.Spec.Endpoints[0].Port {
							t.Errorf("the ServiceMonitor wants the port %s of %s", o.monitor.Spec.Endpoints[0].Port, s.Name)
						}
					}
				}
				if found != 1 {
					t.Errorf("the ServiceMonitor selects %d Services: each pod would be read as often", found)
				}
			}
			if a := o.autoscaler; a != nil && (a.Spec.ScaleTargetRef.Name != o.deployment.Name || o.deployment.Spec.Replicas != nil) {
				t.Errorf("the autoscaler scales %s, and the Deployment has its own count %v", a.Spec.ScaleTargetRef.Name, o.deployment.Spec.Replicas)
			}
			if o.route != nil && (string(o.route.Spec.Rules[0].BackendRefs[0].Name) != o.services[0].Name || *o.route.Spec.Rules[0].BackendRefs[0].Port != o.services[0].Spec.Ports[0].Port) {
				t.Errorf("the TLSRoute leads to %v", o.route.Spec.Rules[0].BackendRefs[0])
			}
			checkAdmin(t, o)
			checkGrace(t, o)
			checkHardened(t, pod.Spec)
			checkMounts(t, pod.Spec)
		})
	}
}

func asSelector(t *testing.T, s *metav1.LabelSelector) labels.Selector {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil || selector.Empty() {
		t.Fatalf("selector %v: %v", s, err)
	}
	return selector
}

// checkPolicy wants clients and Prometheus to come in, and nobody else.
func checkPolicy(t *testing.T, p *networkingv1.NetworkPolicy, c corev1.Container) {
	t.Helper()
	admin := false
	for _, rule := range p.Spec.Ingress {
		for _, port := range rule.Ports {
			name := port.Port.String()
			if name == "admin" {
				admin = true
				if len(rule.From) == 0 || len(rule.Ports) != 1 {
					t.Error("everybody may ask the admin port")
				}
			} else if name != "kafka" && port.EndPort == nil {
				t.Errorf("the port %s is open", name)
			}
		}
		if len(rule.Ports) == 0 {
			t.Error("a rule opens all ports")
		}
	}
	for _, rule := range p.Spec.Egress {
		if len(rule.Ports) == 0 {
			t.Error("the proxy may connect to any port")
		}
	}
	if !admin || len(p.Spec.Ingress) != 2 || len(c.Ports) < 2 {
		t.Errorf("Prometheus cannot ask: %v", p.Spec.Ingress)
	}
}

// adminOf is what the program is told of its admin port.
func adminOf(t *testing.T, o *objects) (admin struct {
	Bind, Cert, Key string
	TokenFile       string `json:"token-file"`
}) {
	t.Helper()
	var config struct{ Admin any }
	if err := yaml.Unmarshal([]byte(o.config.Data["proxy.yaml"]), &config); err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Marshal(config.Admin)
	if err == nil {
		err = yaml.Unmarshal(text, &admin)
	}
	if err != nil {
		t.Fatal(err)
	}
	return admin
}

// checkAdmin wants everybody who asks the admin port to ask as it is served: with TLS or without, and with the
// token that the pod has.
func checkAdmin(t *testing.T, o *objects) {
	t.Helper()
	admin, pod := adminOf(t, o), o.deployment.Spec.Template.Spec
	c := pod.Containers[0]
	isTLS := admin.Cert != ""
	for _, probe := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
		if (probe.HTTPGet.Scheme == corev1.URISchemeHTTPS) != isTLS {
			t.Errorf("the probe of %s asks %q, and the certificate is %q", probe.HTTPGet.Path, probe.HTTPGet.Scheme, admin.Cert)
		}
	}
	if protocol, ok := o.services[0].Annotations["service.beta.kubernetes.io/aws-load-balancer-healthcheck-protocol"]; ok && (protocol == "https") != isTLS {
		t.Errorf("the balancer's health check is of %s, and the certificate is %q", protocol, admin.Cert)
	}
	for _, file := range []string{admin.Cert, admin.Key, admin.TokenFile} {
		if file != "" && !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == filepath.Dir(file) }) {
			t.Errorf("%s is not mounted", file)
		}
	}
	if o.monitor == nil {
		return
	}
	endpoint := o.monitor.Spec.Endpoints[0]
	if (endpoint.Scheme != nil && *endpoint.Scheme == "https") != isTLS || (endpoint.TLSConfig != nil) != isTLS {
		t.Errorf("Prometheus asks with %v, and the certificate is %q", endpoint.Scheme, admin.Cert)
	}
	if (endpoint.Authorization != nil) != (admin.TokenFile != "") {
		t.Fatalf("Prometheus shows %v, and the program wants %q", endpoint.Authorization, admin.TokenFile)
	}
	if admin.TokenFile == "" {
		return
	}
	shown := endpoint.Authorization.Credentials
	for _, v := range pod.Volumes {
		if v.Name == "admin-token" && v.Secret.SecretName == shown.Name && v.Secret.Items[0].Key == shown.Key && v.Secret.Items[0].Path == filepath.Base(admin.TokenFile) {
			return
		}
	}
	t.Errorf("Prometheus shows another token than the pod has: %v", shown)
}

// checkGrace wants a pod to live for longer than its last connections may.
func checkGrace(t *testing.T, o *objects) {
	t.Helper()
	var config struct{ Timeouts struct{ Drain string } }
	if err := yaml.Unmarshal([]byte(o.config.Data["proxy.yaml"]), &config); err != nil {
		t.Fatal(err)
	}
	drain, err := time.ParseDuration(config.Timeouts.Drain)
	if err != nil {
		t.Fatal(err)
	}
	pod := o.deployment.Spec.Template.Spec
	before := time.Duration(pod.Containers[0].Lifecycle.PreStop.Sleep.Seconds) * time.Second
	if grace := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second; grace <= before+drain {
		t.Errorf("a pod has %v to end, and needs %v and %v", grace, before, drain)
	}
}

// checkHardened is what the restricted Pod Security Standard wants, and a read-only root.
func checkHardened(t *testing.T, pod corev1.PodSpec) {
	t.Helper()
	s, c := pod.SecurityContext, pod.Containers[0].SecurityContext
	if !*s.RunAsNonRoot || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault || *c.AllowPrivilegeEscalation ||
		!*c.ReadOnlyRootFilesystem || !slices.Contains(c.Capabilities.Drop, "ALL") || *pod.AutomountServiceAccountToken {
		t.Errorf("pods are not restricted: %v, %v", s, c)
	}
}

// checkMounts wants folders that change with their secrets.
func checkMounts(t *testing.T, pod corev1.PodSpec) {
	t.Helper()
	var volumes []string
	for _, v := range pod.Volumes {
		volumes = append(volumes, v.Name)
	}
	for _, m := range pod.Containers[0].VolumeMounts {
		if m.SubPath != "" || !m.ReadOnly || !slices.Contains(volumes, m.Name) {
			t.Errorf("the mount %v", m)
		}
	}
}

// Each mistake is told with what to do.
func TestBadValuesAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ change, want string }{
		"no image":              {"image: {repository: ''}", "image.repository: is missing"},
		"no tag":                {"image: {tag: ''}", "image.tag: is missing"},
		"no cluster":            {"clusters: {kafka: null}", "clusters: is missing"},
		"no certificate":        {"certificate: {secretName: ''}", "certificate.secretName: is missing"},
		"a misspelt value":      {"replica: 3", "replica"},
		"an upstream's port":    {"clusters: {kafka: {upstream: [broker]}}", "does not match pattern"},
		"too short a grace":     {"terminationGracePeriodSeconds: 30", "is too short: preStopSeconds and drainSeconds want 50"},
		"a drain of its own":    {"config: {timeouts: {drain: 1m}}", "set drainSeconds instead"},
		"an admin port":         {"config: {admin: {bind: ':1'}}", "the probes need the admin port"},
		"headers from anywhere": {"service: {proxyProtocol: true}", "list the networks of the balancer"},
		"internal nowhere":      {"service: {internal: true}", "needs service.cloud"},
		"no issuer":             {"certificate: {certManager: {enabled: true}}", "name the issuer"},
		"a runbook's folder":    {"prometheusRule: {runbookURL: 'https://git.example/docs'}", "does not match pattern"},
		"no gateway":            {"gateway: {enabled: true}", "name a Gateway"},
		"two tokens":            {"{admin: {tokenSecret: {name: a}}, config: {admin: {token-file: /b}}}", "admin.tokenSecret sets it"},
		"a token of its own":    {"{serviceMonitor: {enabled: true}, config: {admin: {token-file: /b}}}", "Prometheus would not know the token"},
		"unverified scrapes":    {"{serviceMonitor: {enabled: true}, config: {admin: {cert: /a, key: /b}}}", "say by which authority and name Prometheus is to verify the pods"},
		"TLS with nobody":       {"serviceMonitor: {enabled: true, tlsConfig: {serverName: a}}", "the admin port speaks TLS only with config.admin.cert"},
	} {
		change, err := chartutil.ReadValues([]byte(c.change))
		if err != nil {
			t.Fatal(err)
		}
		values := chartutil.CoalesceTables(change, valuesOf(t, "minimal"))
		if _, _, err := render(values); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: want %q: %v", name, c.want, err)
		}
	}
}

// Balancers of each cloud are told what they have to do.
func TestBalancersAreToldWhatToDo(t *testing.T) {
	aws := rendered(t, "aws").services[0].Annotations
	target := aws["service.beta.kubernetes.io/aws-load-balancer-target-group-attributes"]
	for _, want := range []string{"proxy_protocol_v2.enabled=true", "deregistration_delay.timeout_seconds=15"} {
		if !strings.Contains(target, want) {
			t.Errorf("AWS is not told %s: %s", want, target)
		}
	}
	if got := rendered(t, "everything").services[0].Annotations["service.beta.kubernetes.io/azure-load-balancer-internal"]; got != "true" {
		t.Errorf("Azure's balancer is not internal: %q", got)
	}
	if got := rendered(t, "ports").services[0].Annotations["networking.gke.io/load-balancer-type"]; got != "Internal" {
		t.Errorf("Google's balancer is not internal: %q", got)
	}
}

func TestCertificatesAndRoutesHaveTheNames(t *testing.T) {
	if got := rendered(t, "aws").cert.Spec.DNSNames; !slices.Equal(got, []string{"*.audit.kafka.example", "*.orders.kafka.example"}) {
		t.Errorf("the certificate is for %q", got)
	}
	o := rendered(t, "gcp")
	if got := o.cert.Spec.DNSNames; !slices.Equal(got, []string{"*.kafka.example", "audit.kafka.example"}) {
		t.Errorf("the certificate is for %q", got)
	}
	if o.cert.Spec.SecretName != o.deployment.Spec.Template.Spec.Volumes[1].Secret.SecretName {
		t.Errorf("the certificate goes to %s, and the pod has %v", o.cert.Spec.SecretName, o.deployment.Spec.Template.Spec.Volumes)
	}
	if len(o.route.Spec.Hostnames) != 2 {
		t.Errorf("the route is for %q", o.route.Spec.Hostnames)
	}
}

// The Kustomize base is the chart with few values: one source for both.
func TestTheKustomizeBaseIsTheChart(t *testing.T) {
	values := valuesOf(t, "minimal")
	values["image"] = map[string]any{"repository": "kafka-sni-proxy", "tag": "latest"}
	text, _, err := render(values)
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`(?m)^ +(app.kubernetes.io/managed-by|helm.sh/chart): .*\n`).ReplaceAllString(text, "")
	text = strings.ReplaceAll(strings.ReplaceAll(text, "edge-kafka-sni-proxy", "kafka-sni-proxy"), "instance: edge", "instance: kafka-sni-proxy")
	text = "# Made from the Helm chart by a test. Change it in an overlay, as ../example does.\n" + text
	if *update {
		if err := os.WriteFile(baseFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(baseFile); err != nil || string(got) != text {
		t.Errorf("%s is not up to date (%v): go test . -update", baseFile, err)
	}
	for _, dir := range []string{"../kustomize/base", "../kustomize/example"} {
		result, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		made, err := result.AsYaml()
		if err != nil {
			t.Fatal(err)
		}
		o := decode(t, string(made))
		checkGrace(t, o)
		if dir == "../kustomize/example" {
			if image := o.deployment.Spec.Template.Spec.Containers[0].Image; image != "registry.example/kafka-sni-proxy:1.2.3" {
				t.Errorf("the example's image is %s", image)
			}
			if !strings.Contains(o.config.Data["proxy.yaml"], "orders.kafka.example") || o.deployment.Namespace != "streams" {
				t.Errorf("the example does not change the base: %v", o.config)
			}
		}
	}
}

// The program takes what the chart writes, serves with it, answers the probes, and reads it again when the
// kubelet puts another version in its place, without a restart.
func TestTheProgramServesWithTheRenderedConfiguration(t *testing.T) {
	program := build(t)
	for _, set := range sets {
		o := rendered(t, set)
		cmd := exec.CommandContext(t.Context(), program, "config", "show", "-")
		cmd.Stdin = strings.NewReader(o.config.Data["proxy.yaml"])
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", set, err, out)
		}
	}

	// A volume of the kubelet: files are links into ..data, which is a link that is replaced.
	o := rendered(t, "minimal")
	p := serve(t, program, o)
	readiness := o.deployment.Spec.Template.Spec.Containers[0].ReadinessProbe.HTTPGet
	if got := p.get(t, "http", readiness.Path, ""); got != http.StatusServiceUnavailable {
		t.Errorf("without a cluster the readiness probe is answered with %d", got)
	}
	p.project(t, "..2", strings.Replace(p.local, "kafka.example", "other.example", 1))
	p.log.await(t, "the configuration is in use")
	if got := p.get(t, "http", "/healthz", ""); got != http.StatusOK {
		t.Errorf("after the change: %d", got)
	}
}

// With a certificate and a token at the admin port, what is asked as the objects say is answered: probes, which
// show nothing, and Prometheus, which shows the token.
func TestTheAdminPortIsAskedAsItIsServed(t *testing.T) {
	o := rendered(t, "everything")
	p := serve(t, build(t), o)
	readiness := o.deployment.Spec.Template.Spec.Containers[0].ReadinessProbe.HTTPGet
	endpoint := o.monitor.Spec.Endpoints[0]
	for _, asked := range []struct {
		path, token string
		want        int
	}{
		{readiness.Path, "", http.StatusServiceUnavailable}, // there is no cluster
		{endpoint.Path, "", http.StatusUnauthorized},
		{endpoint.Path, "another-token-of-the-length", http.StatusUnauthorized},
		{endpoint.Path, token, http.StatusOK},
	} {
		if got := p.get(t, string(*endpoint.Scheme), asked.path, asked.token); got != asked.want {
			t.Errorf("%s with %q is answered with %d, want %d", asked.path, asked.token, got, asked.want)
		}
	}
}

// build builds the program.
func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "kafka-sni-proxy")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/kafka-sni-proxy")
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// pod is the program with what a pod would have.
type pod struct {
	admin  string // the port
	local  string // the configuration, with folders and ports of this machine
	config string // the folder it is mounted at
	log    *lines
}

const token = "the-token-of-the-operators"

// serve starts the program with a rendered configuration, its certificates and its token, and waits until it is
// alive, as the startup probe does.
func serve(t *testing.T, program string, o *objects) *pod {
	t.Helper()
	dir, container := t.TempDir(), o.deployment.Spec.Template.Spec.Containers[0]
	p := &pod{admin: freePort(t), config: filepath.Join(dir, "config"), log: &lines{seen: make(chan string, 1000)}}
	for _, mount := range container.VolumeMounts {
		switch local := filepath.Join(dir, filepath.Base(mount.MountPath)); mount.Name {
		case "config":
		case "admin-token":
			if err := errors.Join(os.Mkdir(local, 0o755), os.WriteFile(filepath.Join(local, "token"), []byte(token), 0o600)); err != nil {
				t.Fatal(err)
			}
		default:
			writeCertificate(t, local)
		}
	}
	p.local = strings.NewReplacer("/etc/kafka-sni-proxy", dir, "0.0.0.0:9092", "127.0.0.1:"+freePort(t), "0.0.0.0:9090", "127.0.0.1:"+p.admin,
		"lkc-abcde.confluent.cloud:9092", "127.0.0.1:1", "kafka:9093", "127.0.0.1:1").Replace(o.config.Data["proxy.yaml"])
	p.project(t, "..1", p.local)
	proxy := exec.CommandContext(t.Context(), program, "--config", filepath.Join(p.config, filepath.Base(container.Args[1])))
	proxy.Stderr = p.log
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proxy.Process.Kill(); proxy.Wait() })
	p.log.await(t, "listening")
	probe, scheme := container.StartupProbe.HTTPGet, "http"
	if probe.Scheme != "" {
		scheme = strings.ToLower(string(probe.Scheme))
	}
	tries := time.NewTicker(50 * time.Millisecond)
	defer tries.Stop()
	for p.get(t, scheme, probe.Path, "") != http.StatusOK { // the test's own deadline ends it
		<-tries.C
	}
	return p
}

// project writes a version of a ConfigMap's volume as the kubelet does.
func (p *pod) project(t *testing.T, version, content string) {
	t.Helper()
	dir := p.config
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	check(os.MkdirAll(filepath.Join(dir, version), 0o755))
	check(os.WriteFile(filepath.Join(dir, version, "proxy.yaml"), []byte(content), 0o644))
	check(os.Symlink(version, filepath.Join(dir, "..data_tmp")))
	check(os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	if err := os.Symlink("..data/proxy.yaml", filepath.Join(dir, "proxy.yaml")); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
}

func writeCertificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"*.kafka.example", "*.other.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{"tls.crt": {Type: "CERTIFICATE", Bytes: der}, "tls.key": {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return fmt.Sprint(ln.Addr().(*net.TCPAddr).Port)
}

// get asks the admin port as a kubelet does, which verifies no certificate; with a token, if one is given.
func (p *pod) get(t *testing.T, scheme, path, token string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://127.0.0.1:"+p.admin+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// lines is a log that can be waited for.
type lines struct {
	rest bytes.Buffer
	all  []string
	seen chan string
}

func (l *lines) Write(p []byte) (int, error) {
	l.rest.Write(p)
	for {
		line, err := l.rest.ReadString('\n')
		if err != nil {
			l.rest.WriteString(line)
			return len(p), nil
		}
		l.seen <- line
	}
}

func (l *lines) await(t *testing.T, text string) {
	t.Helper()
	for {
		select {
		case line := <-l.seen:
			if l.all = append(l.all, line); strings.Contains(line, text) {
				return
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%q is not in the log:\n%s", text, strings.Join(l.all, ""))
		}
	}
}
