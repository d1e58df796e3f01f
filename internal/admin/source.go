package admin

import "kafka-sni-proxy/internal/api"

// Source is what the page and the API tell.
type Source interface {
	Status() api.Status
	Clusters() api.Clusters
	Sessions(api.SessionQuery) api.Sessions
	Failures() api.Failures
	// History returns the last hour of a cluster, of all together for ""; false: there is no such cluster.
	History(cluster string) (api.History, bool)
}
