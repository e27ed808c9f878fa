package portal

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/connections"
	"eventrouter/pkg/endusers"
)

// APIPath is what the paths of the API begin with; {app}/connection goes on behind it.
const APIPath = "/api/v1/apps/"

const maxAsk = 64 << 10 // bytes of a body

// notConnected is the status of an account that is not known.
const notConnected = "not_connected"

// standing is what the people of an account are told of it. What others are connected to is not in it, nor what the router says to those who run it.
type standing struct {
	App          string     `json:"app"`
	Account      string     `json:"account"`
	Status       string     `json:"status"` // connected, reconnect_needed, not_connected
	Reason       string     `json:"reason,omitempty"`
	Problem      string     `json:"problem"` // what keeps events from HubSpot while it is connected: one of destinations.Cause; "": nothing
	ProblemAt    *time.Time `json:"problem_at,omitempty"`
	Hub          string     `json:"hub"`
	HubDomain    string     `json:"hub_domain,omitempty"` // by which people know the hub
	Since        *time.Time `json:"since"`
	Granted      *time.Time `json:"granted"` // when its people granted it last
	LastDelivery *time.Time `json:"last_delivery"`
	Options      []choice   `json:"options"`
	AppEvents    []choice   `json:"app_events"`
}

// choice is something that an account may switch on or off.
type choice struct {
	Name  string `json:"name"`
	Label string `json:"label"`
	On    bool   `json:"on"`
}

// API answers {app}/connection below APIPath, for the account of the token.
func (p *Portal) API() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, APIPath), "/")
		answer := map[string]func(http.ResponseWriter, *http.Request, config.App, string){
			"GET": p.tell, "HEAD": p.tell, "POST": p.link, "PATCH": p.choose, "DELETE": p.disconnect,
		}[r.Method]
		if strings.TrimSuffix(rest, "/") != "connection" || answer == nil {
			notFound(w)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		cfg, ok := p.opts.App(name)
		if !ok {
			refuse(w, connections.ErrNoApp)
			return
		}
		if account, ok := p.authenticate(w, r, name); ok {
			answer(w, r, cfg, account)
		}
	})
}

// authenticate returns the account that the request's token speaks for, or refuses the request.
func (p *Portal) authenticate(w http.ResponseWriter, r *http.Request, app string) (account string, ok bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		token = ""
	}
	account, err := p.opts.Verify(app, []byte(strings.TrimSpace(token)))
	switch {
	case err == nil:
		return account, true
	case errors.Is(err, endusers.ErrUnavailable):
		w.Header().Set("Retry-After", "5")
		answerJSON(w, http.StatusServiceUnavailable, problem{"Tokens can not be verified at the moment, try again later", endusers.ErrUnavailable.Error()})
	default:
		w.Header().Set("WWW-Authenticate", "Bearer")
		answerJSON(w, http.StatusUnauthorized, problem{"The token is not taken", err.Error()}) // a Refusal quotes nothing
	}
	return "", false
}

// tell answers GET.
func (p *Portal) tell(w http.ResponseWriter, r *http.Request, cfg config.App, account string) {
	answerJSON(w, http.StatusOK, p.standing(cfg, account, languageOf(r)))
}

func (p *Portal) standing(cfg config.App, account, language string) standing {
	s := standing{App: cfg.Name, Account: account, Status: notConnected, Options: []choice{}, AppEvents: []choice{}}
	if c, ok := p.opts.Connections.Get(cfg.Name, account); ok {
		s.Status, s.Hub, s.HubDomain, s.Since, s.Granted, s.LastDelivery = string(c.Status), c.Hub, c.HubDomain, c.Since, c.Granted, c.LastDelivery
		s.Problem, s.ProblemAt = string(c.Problem), c.ProblemAt
		switch {
		case c.Status != connections.ReconnectNeeded:
		case c.Reason == connections.ReasonUninstalled:
			s.Reason = "uninstalled"
		default:
			s.Reason = "refused"
		}
	}
	chosen := p.opts.Connections.Chosen(cfg.Name, account)
	for _, o := range cfg.Portal.Options {
		on, said := chosen.Options[o.Name]
		if !said {
			on = o.Default
		}
		label := o.Label[language]
		if label == "" {
			label = o.Name
		}
		s.Options = append(s.Options, choice{o.Name, label, on})
	}
	for _, m := range cfg.AppEvents.Members() {
		on, said := chosen.AppEvents[m.Key]
		s.AppEvents = append(s.AppEvents, choice{m.Key, m.Key, on || !said})
	}
	return s
}

// link answers POST with an install link.
func (p *Portal) link(w http.ResponseWriter, r *http.Request, cfg config.App, account string) {
	var ask struct {
		ReturnURL string `json:"return_url"`
	}
	if !read(w, r, &ask, `write {}, or {"return_url": "https://app.example.com/settings"}`) {
		return
	}
	address, expires, err := p.opts.Connections.Link(cfg.Name, account, ask.ReturnURL)
	if err != nil {
		refuse(w, err)
		return
	}
	answerJSON(w, http.StatusOK, struct {
		URL       string    `json:"url"`
		ExpiresAt time.Time `json:"expires_at"`
	}{address, expires})
}

// choose answers PATCH: what it does not name stays as it was.
func (p *Portal) choose(w http.ResponseWriter, r *http.Request, cfg config.App, account string) {
	var more connections.Chosen
	if !read(w, r, &more, `write {"options": {"marketing": false}, "app_events": {"Contact Created": true}}`) {
		return
	}
	if err := p.opts.Connections.Choose(r.Context(), cfg.Name, account, more); err != nil {
		refuse(w, err)
		return
	}
	p.tell(w, r, cfg, account)
}

// disconnect answers DELETE.
func (p *Portal) disconnect(w http.ResponseWriter, r *http.Request, cfg config.App, account string) {
	done, err := p.opts.Connections.Disconnect(r.Context(), cfg.Name, account)
	if err != nil {
		refuse(w, err)
		return
	}
	answerJSON(w, http.StatusOK, struct {
		Hub     string `json:"hub"`
		Revoked bool   `json:"revoked"`
	}{done.Hub, done.Revoked})
}

// read reads a body, or refuses the request and says what to write.
func read(w http.ResponseWriter, r *http.Request, v any, write string) bool {
	dec := json.NewDecoder(io.LimitReader(r.Body, maxAsk))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		answerJSON(w, http.StatusBadRequest, problem{"The body is not what this route takes", write})
		return false
	}
	return true
}

// refuse answers with what went wrong. What the store or HubSpot says is for those who run the router.
func refuse(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, connections.ErrNoApp):
		answerJSON(w, http.StatusNotFound, problem{"No such app", "it is none of apps in the configuration"})
	case errors.Is(err, connections.ErrNotConnected):
		answerJSON(w, http.StatusNotFound, problem{"The account is not connected", ""})
	case errors.Is(err, connections.ErrAccount), errors.Is(err, connections.ErrReturnURL):
		answerJSON(w, http.StatusBadRequest, problem{"The link is not made", err.Error()})
	case errors.Is(err, connections.ErrNoOption):
		answerJSON(w, http.StatusBadRequest, problem{"No such option", err.Error()}) // an OptionError
	default:
		w.Header().Set("Retry-After", "10")
		answerJSON(w, http.StatusServiceUnavailable, problem{"It can not be done now", "try again later"})
	}
}
