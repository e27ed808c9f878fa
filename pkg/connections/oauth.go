package connections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"eventrouter/pkg/config"
)

const (
	// callTime is how long one call about tokens may take. A refresh is not cut short when the router stops, so this is also how long it may take to stop.
	callTime  = 15 * time.Second
	maxAnswer = 1 << 20
	maxToken  = 4096 // HubSpot says 512

	// A token's life is taken to be between the two, whatever HubSpot says of it: what matters is the refresh token beside it, which may be a new one. An access token that is
	// over earlier is refused, and replaced then.
	shortestLife, longestLife = 2 * margin, 24 * time.Hour
)

// refusal is an answer of HubSpot's that gives no token. Nothing of the answer's text is in it: that may repeat what was sent.
type refusal struct {
	status      int
	code        string        // one of knownCodes; "": it named none
	correlation string        // by which HubSpot finds the call
	after       time.Duration // what Retry-After said; 0: nothing
}

// knownCodes are those by which HubSpot says why it gives no token.
var knownCodes = map[string]bool{
	"BAD_REFRESH_TOKEN": true, "BAD_HUB": true, "BAD_AUTH_CODE": true, "EXPIRED_AUTH_CODE": true, "BAD_CLIENT_ID": true, "BAD_CLIENT_SECRET": true, "BAD_REDIRECT_URI": true,
	"MISMATCH_REDIRECT_URI_AUTH_CODE": true, "BAD_GRANT_TYPE": true, "BAD_CODE_VERIFIER": true,
	// Of RFC 6749, which stand beside those in `error`. They count where HubSpot says nothing that is known.
	"invalid_grant": true, "invalid_client": true, "unauthorized_client": true,
}

func (r *refusal) Error() string {
	text := fmt.Sprintf("hubspot answered %d", r.status)
	if r.code != "" {
		text += " " + r.code
	}
	if r.correlation != "" {
		text += " (correlation id " + r.correlation + ")"
	}
	return text
}

// revoked says that the account's people, or HubSpot, took away what they had granted.
func (r *refusal) revoked() bool {
	return r.code == "BAD_REFRESH_TOKEN" || r.code == "BAD_HUB" || r.code == "invalid_grant"
}

// ours says that the app's configuration is wrong, and no account is at fault.
func (r *refusal) ours() bool {
	return r.code != "" && !r.revoked() && r.code != "BAD_AUTH_CODE" && r.code != "EXPIRED_AUTH_CODE" && r.code != "BAD_CODE_VERIFIER"
}

// grant is what HubSpot answers with tokens.
type grant struct {
	access, refresh config.Secret
	lifetime        time.Duration
	hub             string   // "" where it was not said
	domain          string   // by which people know the hub; "" where it was not said
	scopes          []string // nil where they were not said
}

// answerOfToken is as HubSpot writes it. v1 says neither hub nor scopes with the tokens.
type answerOfToken struct {
	AccessToken  string          `json:"access_token"`
	RefreshToken string          `json:"refresh_token"`
	ExpiresIn    json.RawMessage `json:"expires_in"`
	HubID        json.RawMessage `json:"hub_id"`
	HubDomain    string          `json:"hub_domain"`
	Scopes       []string        `json:"scopes"`
	Scope        string          `json:"scope"`
}

// readAnswer reads an answer about a token. A member of another type than documented is as if it were not there.
func readAnswer(data []byte) (a answerOfToken, err error) {
	err = json.Unmarshal(data, &a)
	if _, odd := errors.AsType[*json.UnmarshalTypeError](err); err != nil && !odd {
		return a, errors.New("hubspot's answer about the token is no JSON as it is documented") // err may quote the token
	}
	return a, nil
}

// unquoted is a number's text, which some write in quotes.
func unquoted(raw json.RawMessage) string { return strings.Trim(string(raw), `"`) }

// lifetime is how long an access token is taken to be good.
func lifetime(raw json.RawMessage) time.Duration {
	seconds, err := strconv.ParseFloat(unquoted(raw), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || !(seconds > shortestLife.Seconds()) {
		return shortestLife
	}
	return time.Duration(min(seconds, longestLife.Seconds()) * float64(time.Second))
}

// token asks for tokens with one of the grant types. Errors are a *refusal, or of the network; none has anything secret in it.
func (s *Service) token(ctx context.Context, ap *app, form url.Values) (*grant, error) {
	form.Set("client_id", ap.cfg.ClientID)
	form.Set("client_secret", string(ap.cfg.ClientSecret))
	data, err := s.post(ctx, ap, "token", form)
	if err != nil {
		return nil, err
	}
	a, err := readAnswer(data)
	switch {
	case err != nil:
		return nil, err
	case !soundToken(a.AccessToken):
		return nil, errors.New("hubspot's answer has no access token, or one that fits in no header")
	}
	g := &grant{
		access: config.Secret(a.AccessToken), refresh: config.Secret(a.RefreshToken), lifetime: lifetime(a.ExpiresIn), hub: hubName(unquoted(a.HubID)), domain: hubDomain(a.HubDomain),
		scopes: a.Scopes,
	}
	if g.scopes == nil && a.Scope != "" {
		g.scopes = strings.Fields(a.Scope)
	}
	return g, nil
}

func soundToken(text string) bool {
	return text != "" && len(text) <= maxToken && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

var digits = regexp.MustCompile(`^[1-9][0-9]{0,18}$`)

// hubName is a hub's id as text; "" for what is none.
func hubName(text string) string {
	if digits.MatchString(text) {
		return text
	}
	return ""
}

// domain is what people know a hub by: at most 253 letters, digits, dots and hyphens.
var domain = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$`)

// hubDomain is a hub's domain as text; "" for what is none.
func hubDomain(text string) string {
	if domain.MatchString(text) {
		return text
	}
	return ""
}

// domainTime is how long the call may take by which nothing but the hub's domain is learned: somebody waits in a browser.
const domainTime = 5 * time.Second

// describe asks what an access token is good for, where the answer that brought it did not say. A hub whose domain is not said has none.
func (s *Service) describe(ctx context.Context, ap *app, g *grant) error {
	if g.hub == "" || g.scopes == nil {
		return s.introspect(ctx, ap, g)
	}
	if g.domain == "" {
		ctx, cancel := context.WithTimeout(ctx, domainTime)
		defer cancel()
		if err := s.introspect(ctx, ap, g); err != nil {
			s.opts.Logger.Info("HubSpot does not say by which domain people know a hub: lists show its number alone", "app", ap.cfg.Name, "hub", g.hub, "error", err.Error())
		}
	}
	return nil
}

// introspect asks about an access token, and fills in what is not known of the grant.
func (s *Service) introspect(ctx context.Context, ap *app, g *grant) (err error) {
	var data []byte
	if ap.cfg.APIVersion == "v1" {
		data, err = s.call(ctx, http.MethodGet, ap.cfg.BaseURL+"/oauth/v1/access-tokens/"+url.PathEscape(string(g.access)), nil)
	} else {
		data, err = s.post(ctx, ap, "token/introspect", url.Values{
			"token": {string(g.access)}, "token_type_hint": {"access_token"}, "client_id": {ap.cfg.ClientID}, "client_secret": {string(ap.cfg.ClientSecret)},
		})
	}
	if err != nil {
		return err
	}
	a, err := readAnswer(data)
	if err != nil {
		return err
	}
	hub := hubName(unquoted(a.HubID))
	if g.hub == "" {
		g.hub = hub
	}
	if g.hub == hub { // and not of another one
		g.domain = hubDomain(a.HubDomain)
	}
	if g.scopes == nil {
		g.scopes = a.Scopes
	}
	if g.hub == "" {
		return errors.New("hubspot does not say which account the token is of")
	}
	return nil
}

// revoke takes a refresh token away.
func (s *Service) revoke(ctx context.Context, ap *app, refresh config.Secret) error {
	if ap.cfg.APIVersion == "v1" {
		_, err := s.call(ctx, http.MethodDelete, ap.cfg.BaseURL+"/oauth/v1/refresh-tokens/"+url.PathEscape(string(refresh)), nil)
		return err
	}
	_, err := s.post(ctx, ap, "token/revoke", url.Values{
		"token": {string(refresh)}, "token_type_hint": {"refresh_token"}, "client_id": {ap.cfg.ClientID}, "client_secret": {string(ap.cfg.ClientSecret)},
	})
	return err
}

func (s *Service) post(ctx context.Context, ap *app, path string, form url.Values) ([]byte, error) {
	return s.call(ctx, http.MethodPost, ap.cfg.BaseURL+"/oauth/"+ap.cfg.APIVersion+"/"+path, form)
}

// call makes one call and returns the body of a 2xx. It follows no redirect: what it sends is secret.
func (s *Service) call(ctx context.Context, method, address string, form url.Values) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, errors.New("base_url makes no request") // err quotes the address
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "eventrouter")
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := s.opts.Transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("hubspot can not be reached: %w", withoutURL(err))
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("hubspot's answer breaks off: %w", withoutURL(err))
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return nil, refused(res, data)
	}
	return data, nil
}

// withoutURL is err without the address that was called, which may have a token in it.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

var correlationID = regexp.MustCompile(`^[0-9a-f-]{8,40}$`)

// refused reads why there is no token.
func refused(res *http.Response, body []byte) *refusal {
	r := &refusal{status: res.StatusCode}
	var said struct {
		Status        string `json:"status"`
		Error         string `json:"error"`
		CorrelationID string `json:"correlationId"`
	}
	if json.Unmarshal(body, &said) == nil {
		switch {
		case res.StatusCode >= 500:
		case knownCodes[said.Status]:
			r.code = said.Status
		case knownCodes[said.Error]:
			r.code = said.Error
		}
		if correlationID.MatchString(said.CorrelationID) {
			r.correlation = said.CorrelationID
		}
	}
	if seconds, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && seconds > 0 {
		r.after = time.Duration(min(seconds, 24*60*60)) * time.Second
	}
	return r
}
