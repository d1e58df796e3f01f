// Package api is what the admin port tells under /api/v1, as types: the page, the commands
// status, routes, sessions and top, and whoever else asks see the same values.
//
//	GET /api/v1/status      Status
//	GET /api/v1/clusters    Clusters
//	GET /api/v1/sessions    Sessions: filtered, sorted, a page at a time (see SessionQuery)
//	GET /api/v1/failures    Failures
//	GET /api/v1/history     History, ?cluster=NAME for one cluster
//	GET /api/v1/support     Support
//
// The answers are JSON, described by internal/admin/openapi.yaml, which a test holds
// against these types. Times are RFC 3339 in UTC; durations are seconds; sizes are bytes. A
// field that is not known is left out. Text that a client or a broker has sent is cut to
// [MaxText] bytes; it is never markup.
//
// The package imports none of ours: client.go asks, who answers is internal/admin.
package api

import "time"

// Prefix is the path that all of these have in common.
const Prefix = "/api/v1/"

// MaxText is how many bytes there are at most of a text that a client or a broker has sent.
const MaxText = 512

// Status is the process as a whole.
type Status struct {
	Version string    `json:"version"`
	Go      string    `json:"go"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Now     time.Time `json:"now"`

	// State is serving or draining. A process that another one has taken over from cannot be asked: the
	// admin port is the new one's.
	State string `json:"state"`
	// StateSince is when that began.
	StateSince time.Time `json:"state_since"`
	// Configuration is the file that was read; empty: flags alone.
	Configuration string `json:"configuration,omitempty"`

	Connections Connections `json:"connections"`
	Traffic     Traffic     `json:"traffic"`
	// Rates are of the last ten seconds or so; left out before there were any.
	Rates *Rates `json:"rates,omitempty"`

	Listeners    []Listener    `json:"listeners"`
	Certificates []Certificate `json:"certificates"`
	Reload       Reload        `json:"reload"`
	// HandOver is how far the change to another process is; left out when there is none.
	HandOver *HandOver `json:"hand_over,omitempty"`
	// Warnings are of what is likely to be wrong with the configuration and its files.
	Warnings []string `json:"warnings"`
	Process  Process  `json:"process"`
}

// Connections are the connections of clients.
type Connections struct {
	Open     int   `json:"open"`
	Most     int   `json:"most,omitempty"` // by --max-connections; 0: no limit
	Accepted int64 `json:"accepted"`
	// AcceptErrors are connections that could not be accepted.
	AcceptErrors int64 `json:"accept_errors"`
	// Refused on arrival, by the limit that they would have exceeded.
	Refused map[string]int64 `json:"refused"`
	// Retired in good order, by what for: idle, age.
	Retired map[string]int64 `json:"retired"`
	// Failed, by the phase it happened in.
	Failed map[string]int64 `json:"failed"`
	Panics int64            `json:"panics"`
	// InFlight is how many requests have no response yet.
	InFlight int `json:"in_flight"`
}

// Traffic is what was carried since the start.
type Traffic struct {
	RequestBytes  int64 `json:"request_bytes"`
	ResponseBytes int64 `json:"response_bytes"`
	Requests      int64 `json:"requests"`
	Responses     int64 `json:"responses"`
	// Rewritten are responses in which an address was replaced.
	Rewritten int64 `json:"rewritten"`
	// Throttled are responses by which a broker told its client to wait.
	Throttled int64 `json:"throttled"`
}

// Rates are means over a few seconds.
type Rates struct {
	RequestBytes  float64 `json:"request_bytes_per_second"`
	ResponseBytes float64 `json:"response_bytes_per_second"`
	Requests      float64 `json:"requests_per_second"`
	Opened        float64 `json:"connections_per_second"`
	Failed        float64 `json:"failures_per_second"`
	// Latency of requests, from the proxy to the broker and back.
	Latency *Quantiles `json:"latency,omitempty"`
	// Added is the time that the proxy itself has added to a request and its response.
	Added *Quantiles `json:"added,omitempty"`
}

// Quantiles are seconds.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// Listener is where clients connect.
type Listener struct {
	Name     string   `json:"name"`
	Address  string   `json:"address"`
	Mode     string   `json:"mode"` // sni or ports
	TLS      bool     `json:"tls"`
	MTLS     bool     `json:"mtls"`
	Clusters []string `json:"clusters"`
	// Bootstrap are the addresses by which clients begin.
	Bootstrap []string `json:"bootstrap"`
	// BrokerPorts are first and last, with mode ports.
	BrokerPorts string `json:"broker_ports,omitempty"`
	Connections int    `json:"connections"`
}

// Certificate is one that clients or brokers are shown, or one of the authorities that
// clients are checked with.
type Certificate struct {
	// Use is listener, upstream, client-authority or admin.
	Use string `json:"use"`
	// Of names the listener or the cluster.
	Of          string    `json:"of"`
	File        string    `json:"file"`
	Subject     string    `json:"subject"`
	Issuer      string    `json:"issuer"`
	Names       []string  `json:"names"`
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	Serial      string    `json:"serial"`
	Fingerprint string    `json:"fingerprint"` // SHA-256, hexadecimal
	// Warning says when it should be renewed, if that is now.
	Warning string `json:"warning,omitempty"`
}

// Reload is what has become of reading files again.
type Reload struct {
	// Changed are readings that brought something new, Failed those that met a file that
	// cannot be used.
	Changed  int64     `json:"changed"`
	Failed   int64     `json:"failed"`
	LastGood time.Time `json:"last_good"` // when all files were last found to be good
	// Events are the last readings that brought something new or failed, the newest first.
	Events []ReloadEvent `json:"events"`
	// Problems are the files that cannot be used now. What was loaded before stays in use.
	Problems []FileProblem `json:"problems"`
}

// ReloadEvent is a reading of files.
type ReloadEvent struct {
	Time time.Time `json:"time"`
	// Asked is whether somebody asked for it, by SIGHUP.
	Asked   bool     `json:"asked"`
	Changed []string `json:"changed"` // settings whose files are new
	Failed  []string `json:"failed"`  // settings whose files cannot be used
}

// FileProblem is a file that cannot be used.
type FileProblem struct {
	Setting string    `json:"setting"`
	Files   []string  `json:"files"`
	Since   time.Time `json:"since"`
	Error   string    `json:"error"`
}

// HandOver is a change to another process.
type HandOver struct {
	Since time.Time `json:"since"`
	// From is the process id of the one before, which ends its connections one by one; left
	// out: another process is being started, which will take over.
	From int `json:"from,omitempty"`
}

// Process is what the system says of the process.
type Process struct {
	ResidentBytes   int64   `json:"resident_bytes,omitempty"`
	CPUSeconds      float64 `json:"cpu_seconds,omitempty"`
	OpenDescriptors int     `json:"open_descriptors,omitempty"`
	MostDescriptors int64   `json:"most_descriptors,omitempty"`
	Goroutines      int     `json:"goroutines"`
}

// Clusters are the Kafka clusters that are served.
type Clusters struct {
	Clusters []Cluster `json:"clusters"`
}

// Cluster is one of them.
type Cluster struct {
	Name string `json:"name"`
	// ID is what its brokers call it; empty: not told yet.
	ID        string   `json:"id,omitempty"`
	Bootstrap string   `json:"bootstrap"` // the name by which clients begin
	Upstreams []string `json:"upstreams"`
	// TLS is whether the proxy speaks TLS with the brokers; Via the gate in between,
	// without its password.
	TLS bool   `json:"tls"`
	Via string `json:"via,omitempty"`
	// Health is ok, failing (some addresses cannot be reached), down (none can) or unknown
	// (none has been tried).
	Health string `json:"health"`
	// Since is when Health became so.
	Since time.Time `json:"since,omitzero"`

	Connections int `json:"connections"`
	InFlight    int `json:"in_flight"`
	// Oldest is for how long the oldest request has had no response.
	Oldest float64 `json:"oldest_seconds,omitempty"`
	// StalledByClients and StalledByBrokers are connections that have been waiting, for a
	// second or more, for a peer that does not read.
	StalledByClients int              `json:"stalled_by_clients"`
	StalledByBrokers int              `json:"stalled_by_brokers"`
	Refused          int64            `json:"refused"` // by the cluster's limit
	Failed           map[string]int64 `json:"failed"`
	Traffic          Traffic          `json:"traffic"`
	// Provisional are connections that asked for a broker which was not known yet.
	Provisional int64 `json:"provisional"`
	// Queries are the questions of the proxy's own where the brokers are.
	Queries Queries `json:"queries"`
	// OtherCluster are addresses that told another cluster's id.
	OtherCluster int `json:"other_cluster_addresses"`
	// Brokers are at most 1000: the upstreams, and the brokers that were learned.
	Brokers []Broker `json:"brokers"`
	// APIs are the requests by API, the most frequent first.
	APIs []APIUse `json:"apis"`
	// Authentication is who clients are and who they are to the brokers; left out where that is
	// between them.
	Authentication *Authentication `json:"authentication,omitempty"`
}

// Authentication is how clients log in at the proxy, and the proxy at brokers.
type Authentication struct {
	Clients []string `json:"clients"` // mechanisms
	Brokers string   `json:"brokers"` // mechanism
	Logins  []Logins `json:"logins"`
}

// Logins counts logins.
type Logins struct {
	Side      string `json:"side"` // client (at the proxy) or broker (the proxy, there)
	Mechanism string `json:"mechanism"`
	OK        int64  `json:"ok"`
	Refused   int64  `json:"refused"`
	Broken    int64  `json:"broken"` // not finished: the other side went away, or took too long
	// Again are further logins of connections that were let in (KIP-368).
	Again int64 `json:"again"`
}

// Queries counts the proxy's own questions.
type Queries struct {
	Answered int64 `json:"answered"`
	Failed   int64 `json:"failed"`
}

// Broker is an address of a cluster.
type Broker struct {
	// Node is its id; left out for an upstream.
	Node *int32 `json:"node,omitempty"`
	// Name is what clients call it; empty for an upstream.
	Name    string `json:"name,omitempty"`
	Address string `json:"address"`
	// Confirmed is whether a broker has told the route since the start; one that only a
	// file tells is not.
	Confirmed   bool `json:"confirmed"`
	Connections int  `json:"connections"`
	// Health is ok, down or unknown.
	Health string `json:"health"`
	// Since is when Health became so.
	Since time.Time `json:"since,omitzero"`
	// LastDial is when it was dialled last, which took LastDialSeconds, TLS included.
	LastDial        time.Time `json:"last_dial,omitzero"`
	LastDialSeconds float64   `json:"last_dial_seconds,omitempty"`
	Dials           int64     `json:"dials"`
	DialErrors      int64     `json:"dial_errors"`
	// LastError is of the last dial that failed, at LastErrorAt. Remedy says what to do.
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
	Remedy      string    `json:"remedy,omitempty"`
}

// APIUse is how much an API is used.
type APIUse struct {
	API     string    `json:"api"` // such as Produce
	Answers int64     `json:"answers"`
	Latency Quantiles `json:"latency"` // since the start
}

// Sessions are connections of clients.
type Sessions struct {
	Total    int       `json:"total"`    // there are
	Matching int       `json:"matching"` // of those, with the filter
	Offset   int       `json:"offset"`   // where this page begins
	Sessions []Session `json:"sessions"` // this page
}

// Session is one connection of a client.
type Session struct {
	ID       uint64    `json:"id"` // since the start of the process
	Client   string    `json:"client"`
	Listener string    `json:"listener,omitempty"`
	SNI      string    `json:"sni,omitempty"`
	Cluster  string    `json:"cluster,omitempty"`
	Broker   string    `json:"broker,omitempty"` // host:port of the one that was reached
	Node     *int32    `json:"node,omitempty"`
	State    string    `json:"state"` // starting, open, draining, drained, finishing or cut
	Began    time.Time `json:"began"`
	Age      float64   `json:"age_seconds"`
	// Software and SoftwareVersion are what the client says it is (KIP-511), ClientID the
	// client.id of its first request. Anybody can say anything here.
	Software        string `json:"software,omitempty"`
	SoftwareVersion string `json:"software_version,omitempty"`
	ClientID        string `json:"client_id,omitempty"`
	TLS             string `json:"tls,omitempty"` // such as TLS 1.3

	// Principal is who the client has proved to be, by Mechanism, and BrokerMechanism how the
	// proxy was let in by the broker for it. Left out where the proxy does not ask.
	Principal       string `json:"principal,omitempty"`
	Mechanism       string `json:"mechanism,omitempty"`
	BrokerMechanism string `json:"broker_mechanism,omitempty"`

	RequestBytes  int64 `json:"request_bytes"`
	ResponseBytes int64 `json:"response_bytes"`
	Requests      int64 `json:"requests"`
	Responses     int64 `json:"responses"`
	// BytesPerSecond is both ways, since it was looked at last, or, at first, since it began.
	BytesPerSecond float64 `json:"bytes_per_second"`
	InFlight       int     `json:"in_flight"`
	// Oldest is for how long the oldest request has had no response, and OldestAPI what it is.
	Oldest    float64 `json:"oldest_seconds,omitempty"`
	OldestAPI string  `json:"oldest_api,omitempty"`
	// Stalled is for how long forwarding has been waiting, now, for a peer that does not read,
	// and StalledBy which that is: client or broker.
	Stalled   float64 `json:"stalled_seconds,omitempty"`
	StalledBy string  `json:"stalled_by,omitempty"`
	// Idle is for how long no byte went either way, as far as it was looked at.
	Idle float64 `json:"idle_seconds"`
	// Provisional is whether it asked for a broker which is not known yet.
	Provisional bool `json:"provisional,omitempty"`
}

// Failures are recent connections that failed or were refused.
type Failures struct {
	Failures []Failure `json:"failures"` // the newest first, 200 at the most
}

// Failure is one, or several of the same kind from the same address.
type Failure struct {
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Count    int64     `json:"count"`
	Client   string    `json:"client"` // of the last one
	SNI      string    `json:"sni,omitempty"`
	Listener string    `json:"listener,omitempty"`
	Cluster  string    `json:"cluster,omitempty"`
	Broker   string    `json:"broker,omitempty"`
	// Principal is who the client has proved to be, before it failed.
	Principal string `json:"principal,omitempty"`
	// Phase is where it happened; limit: refused on arrival.
	Phase  string `json:"phase"`
	Reason string `json:"reason"`
	Remedy string `json:"remedy,omitempty"`
}

// History is the last hour.
type History struct {
	Cluster string `json:"cluster,omitempty"` // empty: all together
	// Interval is how far apart the points are; each is a mean over so long before its time.
	Interval float64 `json:"interval_seconds"`
	// Times are seconds since 1970; the columns have a value for each, null where there is
	// none.
	Times   []int64           `json:"times"`
	Columns map[string]Column `json:"columns"`
}

// Column is the values of one of [Columns], one for each time; null: none.
type Column []*float64

// Columns are what a History has: rates are per second, latencies seconds.
var Columns = []string{
	"connections", "opened", "failed", "in_flight", "requests", "request_bytes", "response_bytes",
	"latency_p50", "latency_p99", "added_p50", "added_p99",
}

// Support is what a report of a bug needs besides: see the command support-bundle.
type Support struct {
	// Configuration is the file that means what is in force, with secrets as ***.
	Configuration string `json:"configuration"`
	// Log are the last lines of the log, the oldest first.
	Log []string `json:"log"`
}

// Problem is the answer when there is none, with a status of 400 or above.
type Problem struct {
	Error string `json:"error"`
}
