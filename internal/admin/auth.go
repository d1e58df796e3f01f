package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"kafka-sni-proxy/internal/api"
)

// open are the paths that need no authentication: probes have none.
var open = map[string]bool{"/healthz": true, "/readyz": true}

// Access says who may ask.
type Access struct {
	// Token returns the bearer token that is wanted; "": none is. Nil: none is.
	Token func() string
	// ClientCertificate is whether a certificate is wanted that the port's TLS has verified.
	ClientCertificate bool
}

// guard lets those ask next who may; all may ask for whether the proxy is well. Either a token
// or a certificate is enough.
func (a Access) guard(next http.Handler) http.Handler {
	if a.isOpen() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if open[r.URL.Path] || a.allows(r) {
			next.ServeHTTP(w, r)
			return
		}
		if a.Token != nil {
			w.Header().Add("WWW-Authenticate", "Bearer")
			w.Header().Add("WWW-Authenticate", `Basic realm="kafka-sni-proxy: any user, and the token as password"`)
		}
		w.Header().Set("Cache-Control", "no-store")
		http.Error(w, a.wanted(), http.StatusUnauthorized)
	})
}

// isOpen reports whether all may ask for everything.
func (a Access) isOpen() bool { return a.Token == nil && !a.ClientCertificate }

func (a Access) allows(r *http.Request) bool {
	if a.ClientCertificate && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return true
	}
	return a.Token != nil && isToken(tokenOf(r), a.Token())
}

// wanted says what is missing.
func (a Access) wanted() string {
	switch {
	case a.Token == nil:
		return "a client certificate is wanted here"
	case a.ClientCertificate:
		return "a client certificate is wanted here, or the token: Authorization: Bearer TOKEN"
	}
	return "the token is wanted here: Authorization: Bearer TOKEN"
}

// tokenOf returns the token that is shown: as a bearer token, or as a password, which is what
// browsers ask their users for.
func tokenOf(r *http.Request) string {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	_, password, _ := r.BasicAuth()
	return password
}

// isToken compares in a time that tells nothing of the token.
func isToken(got, want string) bool {
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && want != ""
}

// told are the paths that any name leads to: probes and scrapes come by names that are not
// known here, and say little.
var told = map[string]bool{"/healthz": true, "/readyz": true, "/metrics": true}

// refuseRebinding is for a port on loopback that asks nobody who they are. A page of somebody
// else's, in a browser on this machine, reaches the port when its name is made to lead to
// 127.0.0.1, and then the browser takes the answers for that page's own. But it tells the name.
// own is this machine's name.
func refuseRebinding(next http.Handler, own string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if told[r.URL.Path] || isThisMachine(r.Host, own) {
			next.ServeHTTP(w, r)
			return
		}
		writeJSON(w, api.Problem{Error: "without a token, this port on loopback is asked for by an IP address, as localhost or as this machine, and not as " + cut(r.Host) +
			": a page in a browser here might ask. Behind a server that passes that name on, set the Host header to localhost there, or --admin-token-file here"}, http.StatusMisdirectedRequest)
	})
}

// isThisMachine reports whether a Host header has a name that nobody else can lead here.
func isThisMachine(host, own string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") || host == strings.ToLower(own) {
		return true
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}
