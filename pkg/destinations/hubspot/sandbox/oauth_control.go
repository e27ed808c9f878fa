package sandbox

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Install is an app in a hub, as it is now.
type Install struct {
	ClientID string    `json:"client_id"`
	App      string    `json:"app"` // its name
	HubID    string    `json:"hub_id"`
	Scopes   []string  `json:"scopes"` // granted, sorted
	Since    time.Time `json:"since"`
	// CanRefresh is false once the refresh token was revoked.
	CanRefresh bool `json:"can_refresh"`
	// AccessTokens are those that are good now.
	AccessTokens int `json:"access_tokens"`
}

// Register adds an app, or replaces the one with its client id; what is installed stays so.
func (s *Sandbox) Register(a App) error {
	s.provider.mu.Lock()
	defer s.provider.mu.Unlock()
	return s.provider.registerLocked(a)
}

// AddHubs adds hubs. It stops at the first that exists or is wrong.
func (s *Sandbox) AddHubs(list ...Hub) error {
	s.provider.mu.Lock()
	defer s.provider.mu.Unlock()
	for _, h := range list {
		if err := s.provider.addHubLocked(h); err != nil {
			return err
		}
	}
	return nil
}

// RemoveHub deletes an account: calls with its tokens answer 401, and to refresh them BAD_HUB. The hub of Options.HubID can not go.
func (s *Sandbox) RemoveHub(id string) error {
	p := s.provider
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.hubs[id]
	if e == nil || e.box == p.top {
		return errors.New("no hub " + id + " that can be removed")
	}
	delete(p.hubs, id)
	p.order = slices.DeleteFunc(p.order, func(o *hubEntry) bool { return o == e })
	return nil
}

// Hub returns the account with that id, to look into it and to inject faults there; nil: there is none. It stays the same after Reset if
// it stands in Options.
func (s *Sandbox) Hub(id string) *Sandbox { return s.provider.hub(id) }

// Installs lists the installed apps, by hub.
func (s *Sandbox) Installs() []Install {
	p := s.provider
	p.mu.Lock()
	defer p.mu.Unlock()
	now, list := p.now(), []Install{}
	for _, in := range p.matchingLocked("", "") {
		out := Install{ClientID: in.client, HubID: in.hub, Scopes: slices.Clone(in.scopes), Since: in.since, CanRefresh: in.refresh != ""}
		if a := p.apps[in.client]; a != nil {
			out.App = a.Name
		}
		for _, t := range in.access {
			if now.Before(t.expires) {
				out.AccessTokens++
			}
		}
		list = append(list, out)
	}
	return list
}

// Uninstall is a hub's user who uninstalls an app: all its tokens are good no more, and its webhook is told. "" is any app, or any hub.
func (s *Sandbox) Uninstall(clientID, hubID string) error {
	return s.provider.eachInstall(clientID, hubID, s.provider.uninstallLocked)
}

// RevokeRefresh makes the refresh token good no more; access tokens stay so until they expire, as in HubSpot. "" is any app, or any hub.
func (s *Sandbox) RevokeRefresh(clientID, hubID string) error {
	return s.provider.eachInstall(clientID, hubID, s.provider.revokeLocked)
}

func (p *provider) revokeLocked(in *install) {
	delete(p.refresh, in.refresh)
	in.refresh = ""
}

// ExpireAccess makes the access tokens expire now, whatever expires_in said. "" is any app, or any hub.
func (s *Sandbox) ExpireAccess(clientID, hubID string) error {
	p := s.provider
	return p.eachInstall(clientID, hubID, func(in *install) {
		for _, t := range in.access {
			if now := p.now(); now.Before(t.expires) {
				t.expires = now
			}
		}
	})
}

// Consent answers an install link as a person with that hub does, without a browser, and returns where HubSpot sends the browser next:
// with code and state, or with error=access_denied. What HubSpot refuses in words is an error.
func (s *Sandbox) Consent(link, hubID string, grant bool) (redirect string, err error) {
	decision := "deny"
	if grant {
		decision = "grant"
	}
	u, err := url.Parse(link)
	if err != nil {
		return "", err
	}
	c := &call{method: http.MethodPost, query: u.Query(), form: url.Values{"hub": {hubID}, "decision": {decision}}}
	if c.resolve(u.EscapedPath()); c.route == nil || c.route.name != "oauth/authorize" {
		return "", errors.New("the link is none to /oauth/authorize")
	}
	s = s.provider.top
	s.mu.Lock()
	defer s.mu.Unlock()
	location, refusal := s.st.consent(c)
	if refusal != "" {
		return "", errors.New(refusal)
	}
	return location, nil
}
