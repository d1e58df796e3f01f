// Command core decodes the Kubernetes objects on its standard input into the types of
// k8s.io/api, strictly: a field that a type does not have is an error. It is a program so that
// it can be built with more than one release of k8s.io/api (older.mod). Objects of other API
// groups are left out.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

var kinds = map[string]func() any{
	"v1/ConfigMap":                           func() any { return &corev1.ConfigMap{} },
	"v1/Service":                             func() any { return &corev1.Service{} },
	"apps/v1/Deployment":                     func() any { return &appsv1.Deployment{} },
	"autoscaling/v2/HorizontalPodAutoscaler": func() any { return &autoscalingv2.HorizontalPodAutoscaler{} },
	"networking.k8s.io/v1/NetworkPolicy":     func() any { return &networkingv1.NetworkPolicy{} },
	"policy/v1/PodDisruptionBudget":          func() any { return &policyv1.PodDisruptionBudget{} },
}

func main() {
	text, err := io.ReadAll(os.Stdin)
	decoded := 0
	for _, document := range bytes.Split(text, []byte("\n---\n")) {
		var meta metav1.TypeMeta
		if err == nil {
			err = yaml.Unmarshal(document, &meta)
		}
		if kind := kinds[meta.APIVersion+"/"+meta.Kind]; err == nil && kind != nil {
			err = yaml.UnmarshalStrict(document, kind())
			decoded++
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s %s: %v\n", meta.APIVersion, meta.Kind, err)
			os.Exit(1)
		}
	}
	fmt.Println(decoded)
}
