package admin

import (
	_ "embed"
	"encoding/json"
	"net/http"

	"kafka-sni-proxy/internal/api"
)

//go:embed openapi.yaml
var openAPI []byte

// apiHandler answers under api.Prefix.
func apiHandler(s Source, facts func() Facts) http.Handler {
	mux := http.NewServeMux()
	get := func(path string, answer func(r *http.Request) (any, int)) {
		mux.HandleFunc(api.Prefix+path, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet && r.Method != http.MethodHead {
				w.Header().Set("Allow", "GET, HEAD")
				writeJSON(w, api.Problem{Error: "only GET is answered here: the API changes nothing"}, http.StatusMethodNotAllowed)
				return
			}
			value, status := answer(r)
			writeJSON(w, value, status)
		})
	}
	get("status", func(*http.Request) (any, int) { return s.Status(), http.StatusOK })
	get("clusters", func(*http.Request) (any, int) { return s.Clusters(), http.StatusOK })
	get("failures", func(*http.Request) (any, int) { return s.Failures(), http.StatusOK })
	get("sessions", func(r *http.Request) (any, int) {
		q, err := api.ParseSessionQuery(r.URL.Query())
		if err != nil {
			return api.Problem{Error: err.Error()}, http.StatusBadRequest
		}
		return s.Sessions(q), http.StatusOK
	})
	get("history", func(r *http.Request) (any, int) {
		name := r.URL.Query().Get("cluster")
		history, ok := s.History(name)
		if !ok {
			return api.Problem{Error: "there is no cluster " + name}, http.StatusNotFound
		}
		return history, http.StatusOK
	})
	get("support", func(*http.Request) (any, int) { return support(facts()), http.StatusOK })
	mux.HandleFunc(api.Prefix+"openapi.yaml", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		w.Write(openAPI)
	})
	mux.HandleFunc(api.Prefix, func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, api.Problem{Error: "there is no such path: see " + api.Prefix + "openapi.yaml"}, http.StatusNotFound)
	})
	return mux
}

func support(f Facts) api.Support {
	s := api.Support{Log: []string{}}
	if f.ShowConfiguration != nil {
		s.Configuration = f.ShowConfiguration()
	}
	if f.Log != nil {
		s.Log = append(s.Log, f.Log()...)
	}
	return s
}

func writeJSON(w http.ResponseWriter, value any, status int) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(true)
	e.Encode(value) // a client that is gone needs none
}
