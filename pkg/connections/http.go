package connections

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Paths that Handler and API answer.
const (
	PagesPath = "/connect/"
	APIPath   = "/api/v1/connections"
)

const (
	defaultPage = 100
	maxPage     = 1000
	maxAsk      = 64 << 10 // bytes of a body that asks for a link
)

// errNotOwn says that somebody asks for an account whose API key speaks for another one.
var errNotOwn = errors.New("the account is not the API key's")

// problem is a refusal, in the form of all that the router refuses.
type problem struct {
	Message string `json:"message"`
	Error   string `json:"error"` // what to do
}

// notFound is the answer that the router has for every path that it does not know.
func notFound(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusNotFound)
	io.WriteString(w, "404 page not found")
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // to a buffer of the server's
}

// Handler answers the pages below PagesPath: start, callback and hubspot of each app. They are for browsers and for HubSpot, and ask for no key.
func (s *Service) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, pageName, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, PagesPath), "/")
		answer := map[string]func(http.ResponseWriter, *http.Request, *app){
			"GET start": s.start, "GET callback": s.callback, "POST hubspot": s.webhook,
		}[r.Method+" "+strings.TrimSuffix(pageName, "/")]
		ap := s.app(name)
		switch {
		case answer == nil:
			notFound(w)
		case ap == nil:
			refuse(w, ErrNoApp)
		default:
			protect(w.Header())
			answer(w, r, ap)
		}
	})
}

// API answers APIPath, for those who have shown a server secret, which the caller has checked. Of one that speaks for a single account, only is that account; "": it may do
// with all.
func (s *Service) API(only string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		switch named := q.Get("account"); {
		case only == "" || r.Method == http.MethodPost: // whose body names it
		case named != "" && named != only:
			refuse(w, errNotOwn)
			return
		default:
			q.Set("account", only)
			r.URL.RawQuery = q.Encode()
		}
		switch {
		case strings.TrimSuffix(r.URL.Path, "/") != APIPath:
			notFound(w)
		case r.Method == http.MethodPost:
			s.linkPage(w, r, only)
		case r.Method == http.MethodGet || r.Method == http.MethodHead:
			s.listPage(w, r)
		case r.Method == http.MethodDelete:
			s.disconnectPage(w, r)
		default:
			notFound(w)
		}
	})
}

// linkPage answers POST with an install link; only is as in API.
func (s *Service) linkPage(w http.ResponseWriter, r *http.Request, only string) {
	var ask struct {
		App       string `json:"app"`
		Account   string `json:"account"`
		ReturnURL string `json:"return_url"`
	}
	dec := json.NewDecoder(io.LimitReader(r.Body, maxAsk))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&ask); err != nil {
		answerJSON(w, http.StatusBadRequest, problem{"The body is no request for a link", `write {"app": "crm", "account": "a1"}, and a return_url if you like`})
		return
	}
	ask.Account = cmp.Or(ask.Account, only)
	if only != "" && ask.Account != only {
		refuse(w, errNotOwn)
		return
	}
	address, expires, err := s.Link(ask.App, ask.Account, ask.ReturnURL)
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	answerJSON(w, http.StatusOK, struct {
		URL       string    `json:"url"`
		ExpiresAt time.Time `json:"expires_at"`
	}{address, expires})
}

// refuse answers with what went wrong.
func refuse(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, ErrNoApp):
		answerJSON(w, http.StatusNotFound, problem{"No such app", "it is none of apps in the configuration"})
	case errors.Is(err, ErrNotConnected):
		answerJSON(w, http.StatusNotFound, problem{"The account is not connected", ""})
	case errors.Is(err, errNotOwn):
		answerJSON(w, http.StatusForbidden, problem{"The account is not the API key's", "leave it out, or take an API key without an account"})
	case errors.Is(err, ErrAccount), errors.Is(err, ErrReturnURL):
		answerJSON(w, http.StatusBadRequest, problem{"The link is not made", err.Error()})
	default: // of the store, or the router stops
		w.Header().Set("Retry-After", "10")
		answerJSON(w, http.StatusServiceUnavailable, problem{"It can not be done now", err.Error()})
	}
}

// listPage answers GET with connections, a page at a time.
func (s *Service) listPage(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit := defaultPage
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxPage {
			answerJSON(w, http.StatusBadRequest, problem{"Wrong limit", "it must be from 1 to 1000"})
			return
		}
		limit = n
	}
	var after [2]string
	if text := q.Get("after"); text != "" {
		data, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || json.Unmarshal(data, &after) != nil {
			answerJSON(w, http.StatusBadRequest, problem{"Wrong after", "it must be what an answer had as next"})
			return
		}
	}
	answer := struct {
		Connections []Connection `json:"connections"`
		Next        string       `json:"next,omitempty"`
	}{Connections: []Connection{}}
	found, more := s.List(q.Get("app"), q.Get("account"), after, limit)
	answer.Connections = append(answer.Connections, found...)
	if more {
		last := found[len(found)-1]
		data, _ := json.Marshal([2]string{last.App, last.Account}) // of strings: can not fail
		answer.Next = base64.RawURLEncoding.EncodeToString(data)
	}
	answerJSON(w, http.StatusOK, answer)
}

// disconnectPage answers DELETE.
func (s *Service) disconnectPage(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	done, err := s.Disconnect(r.Context(), q.Get("app"), q.Get("account"))
	if err != nil {
		refuse(w, err)
		return
	}
	answerJSON(w, http.StatusOK, done)
}
