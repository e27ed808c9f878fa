// Package endusers verifies the tokens with which the end users of a team speak for their accounts: JWTs that the team signs, with the account as `sub`.
//
//	token ─ size ─ alg, kid ─▶ keys of exactly that algorithm ─ signature ─▶ iat, exp, nbf, aud, iss ─▶ sub = account
//	                             PEM in the file, JWKS at a URL
//
// A key is good for one algorithm, which follows from its type: RS256 for RSA, ES256, ES384 or ES512 for a curve, EdDSA for Ed25519. What a token says of itself only chooses
// among keys, so that no public key is ever taken for a secret, and no token goes unsigned.
package endusers

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"eventrouter/pkg/config"
	"eventrouter/pkg/event"
)

const (
	// MaxTokenBytes is the longest token that is looked at.
	MaxTokenBytes = 8 << 10
	// maxKeyID is the longest `kid`.
	maxKeyID = 256
)

// Options of a Verifier.
type Options struct {
	Transport http.RoundTripper // for the JWKS URL; nil: the network
	Logger    *slog.Logger      // nil: discarded
	Now       func() time.Time  // nil: time.Now
	// Before is the verifier that this one follows, nil for none: what it has read of the same URL is used on.
	Before *Verifier
}

// Verifier verifies the tokens of one app. Many goroutines may use it.
type Verifier struct {
	settings config.EndUserTokens
	now      func() time.Time
	parser   *jwt.Parser
	fixed    []key
	remote   *remote // nil: there is no URL
	known    *known
}

// New reads the keys of an app. It makes no call: where the keys stand elsewhere, the first token has them read. Its error is a [config.Problems].
func New(t config.EndUserTokens, o Options) (*Verifier, error) {
	fixed, problems := fixedKeys(t)
	if err := problems.Err(); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	v := &Verifier{settings: t, now: o.Now, fixed: fixed, known: newKnown()}
	// Claims are checked here, each with a text of its own.
	v.parser = jwt.NewParser(jwt.WithValidMethods(algorithms), jwt.WithoutClaimsValidation(), jwt.WithStrictDecoding())
	switch {
	case t.JWKSURL == "":
	case o.Before != nil && o.Before.remote != nil && o.Before.settings.JWKSURL == t.JWKSURL:
		v.remote = o.Before.remote
	default:
		v.remote = newRemote(t.JWKSURL, o)
	}
	return v, nil
}

// HasKeys says whether there are keys at all, in the file or at a URL: without any, all tokens are refused.
func (v *Verifier) HasKeys() bool { return len(v.fixed) > 0 || v.remote != nil }

// Verify returns the account that a token speaks for. Its error is a [*Refusal], whose text is for whoever sent the token and never quotes it, or wraps [ErrUnavailable]: then
// nobody knows, since the keys can not be read at the moment. It may wait for the JWKS URL, for at most five seconds.
func (v *Verifier) Verify(token []byte) (account string, err error) {
	switch {
	case len(token) == 0:
		return "", refuse("there is no token: send Authorization: Bearer and a token that your server has signed")
	case len(token) > MaxTokenBytes:
		return "", refuse("the token is longer than %d bytes", MaxTokenBytes)
	case !v.HasKeys():
		return "", refuse("the app has no keys to verify tokens with: see tokens.keys")
	}
	var current *keySet
	if v.remote != nil {
		current = v.remote.have()
	}
	id := v.known.id(token)
	if e, ok := v.known.find(id); ok && (e.from == nil || e.from == current) {
		if err := v.checkTimes(&e.claims); err != nil {
			return "", err
		}
		return e.claims.Subject, nil
	}
	c, from, err := v.read(string(token))
	if err != nil {
		return "", err
	}
	if err := v.check(&c.RegisteredClaims); err != nil {
		return "", err
	}
	v.known.add(id, entry{c.RegisteredClaims, from})
	return c.Subject, nil
}

// read returns the claims of a token that one of the keys has signed, and the set of the URL that the key is from, nil for one of the file.
func (v *Verifier) read(token string) (*claims, *keySet, error) {
	c := &claims{}
	t, _, err := v.parser.ParseUnverified(token, c) // the signature is verified below, before anything is believed
	if t == nil || t.Header == nil {
		return nil, nil, refuse("the token is no JWT: it must be three parts with dots between, in base64url")
	}
	alg, kid, refusal := header(t.Header)
	if refusal != nil {
		return nil, nil, refusal
	}
	if err != nil {
		return nil, nil, unreadable(err)
	}
	signed := token[:strings.LastIndexByte(token, '.')]
	anyOf := func(keys []key) bool {
		return slices.ContainsFunc(keys, func(k key) bool { return k.alg == alg && t.Method.Verify(signed, t.Signature, k.public) == nil })
	}
	if anyOf(v.fixed) {
		return c, nil, nil
	}
	if v.remote != nil {
		set, err := v.remote.knowing(kid)
		if err != nil {
			return nil, nil, err
		}
		of := set.of(kid)
		if anyOf(of) {
			return c, set, nil
		}
		if kid != "" && len(of) == 0 && len(v.fixed) == 0 {
			return nil, nil, refuse("the token names a key (kid) that is not at the app's jwks_url")
		}
	}
	if !slices.ContainsFunc(v.all(), func(k key) bool { return k.alg == alg }) {
		return nil, nil, refuse("the token is signed with %s, and the app has no key for that", alg)
	}
	return nil, nil, refuse("the signature of the token is of none of the app's keys, or the token was changed")
}

// all are the keys that there are now.
func (v *Verifier) all() []key {
	if v.remote == nil {
		return v.fixed
	}
	return append(slices.Clone(v.fixed), v.remote.have().all()...)
}

// header reads what a token says of its key.
func header(h map[string]any) (alg, kid string, refusal error) {
	alg, _ = h["alg"].(string)
	switch {
	case alg == "":
		return "", "", refuse("the token names no algorithm (alg)")
	case strings.EqualFold(alg, "none"):
		return "", "", refuse("the token is not signed (alg is none)")
	case strings.HasPrefix(alg, "HS"):
		return "", "", refuse("the token is signed with a shared secret (HS256, HS384 or HS512): sign with RS256, ES256 or EdDSA")
	case !slices.Contains(algorithms, alg):
		return "", "", refuse("the token is signed with another algorithm than RS256, ES256, ES384, ES512 and EdDSA")
	}
	if _, critical := h["crit"]; critical {
		return "", "", refuse("the token demands something that is not known here (crit)")
	}
	id, given := h["kid"]
	if kid, _ = id.(string); given && (kid == "" || len(kid) > maxKeyID) {
		return "", "", refuse("kid must be a text of at most %d bytes", maxKeyID)
	}
	return alg, kid, nil
}

// unreadable says why a token can not be read.
func unreadable(err error) error {
	if twice, ok := errors.AsType[*twiceError](err); ok {
		return refuse("the token says %s twice", twice.claim)
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		switch name := wrong.Field; name {
		case "sub", "iat", "exp", "nbf", "aud", "iss", "jti":
			return refuse("the token's %s is a %s, which it can not be", name, wrong.Value)
		}
	}
	return refuse("the token can not be read: its claims must be a JSON object with sub as text, iat and exp in seconds")
}

// check says what is wrong with the claims of a token that is signed well.
func (v *Verifier) check(c *jwt.RegisteredClaims) error {
	switch {
	case c.Subject == "":
		return refuse("the token has no sub: the account that it speaks for")
	case event.CheckAccount(c.Subject) != nil:
		return refuse("the token's sub names no account: %v", event.CheckAccount(c.Subject))
	case c.IssuedAt == nil:
		return refuse("the token has no iat: when it was signed")
	case c.ExpiresAt == nil:
		return refuse("the token has no exp: until when it is good")
	case !c.ExpiresAt.After(c.IssuedAt.Time):
		return refuse("the token's exp is not after its iat")
	case c.ExpiresAt.Sub(c.IssuedAt.Time) > v.settings.MaxAge:
		return refuse("the token is good for longer than max_age allows (%v from iat to exp)", v.settings.MaxAge)
	case v.settings.Audience != "" && len(c.Audience) == 0:
		return refuse("the token has no aud, and the app demands one")
	case v.settings.Audience != "" && !slices.Contains(c.Audience, v.settings.Audience):
		return refuse("the token's aud is not that of the app")
	case v.settings.Issuer != "" && c.Issuer == "":
		return refuse("the token has no iss, and the app demands one")
	case v.settings.Issuer != "" && c.Issuer != v.settings.Issuer:
		return refuse("the token's iss is not that of the app")
	}
	return v.checkTimes(c)
}

// checkTimes says whether a token that has its claims is good now.
func (v *Verifier) checkTimes(c *jwt.RegisteredClaims) error {
	now, skew := v.now(), v.settings.Skew
	switch {
	case !now.Before(c.ExpiresAt.Add(skew)):
		return refuse("the token has expired: sign another one")
	case c.IssuedAt.After(now.Add(skew)):
		return refuse("the token's iat is in the future: is the clock of the machine that signs it right?")
	case c.NotBefore != nil && c.NotBefore.After(now.Add(skew)):
		return refuse("the token is not good yet (nbf)")
	}
	return nil
}
