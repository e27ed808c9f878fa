package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/store"
)

// routerFlags say which router a command asks.
type routerFlags struct {
	URL        string `name:"url" help:"Ask the router at this address. Default: the one of the configuration, or its data directory if none runs." placeholder:"URL"`
	AdminToken string `env:"ADMIN_TOKEN" help:"The admin token of that router. Default: server.admin_token of the configuration." placeholder:"TOKEN"`
}

// load reads the configuration, which need not be there where an address is given, and checks the flags.
func (f *routerFlags) load(path string) (*config.Config, error) {
	if f.URL != "" {
		if u, err := url.Parse(f.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil { // errors repeat it
			return nil, usageError{errors.New("--url: write the router's address, such as https://router.example.com; the token goes into --admin-token")}
		}
	}
	cfg, err := load(path)
	if f.URL != "" && errors.Is(err, fs.ErrNotExist) {
		cfg, err = &config.Config{}, nil // it says nothing that is needed
	}
	return cfg, err
}

// routerCall is a request to the admin API.
type routerCall struct {
	method   string        // "": GET
	path     string        // with its query
	body     any           // sent as JSON, an io.Reader as it is; nil: none
	patience time.Duration // with the answer; 0: a minute
	// via carries the request where no router runs; nil: the network.
	via http.RoundTripper
}

// maxAnswer bounds an answer of a router.
const maxAnswer = 64 << 20

// call asks the router and reads its answer, which is JSON, into answer. Where no router runs the error is one that absent knows.
func (f *routerFlags) call(ctx context.Context, cfg *config.Config, c routerCall, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.patience, time.Minute))
	defer cancel()
	res, err := f.open(ctx, cfg, c)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("ask the router: %w", err)
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("%w: %s: %w", errNoRouter, res.Request.URL.Host, err)
	}
	return nil
}

// open asks the router and returns its answer, whose body the caller closes, if it does what it is asked for.
func (f *routerFlags) open(ctx context.Context, cfg *config.Config, c routerCall) (*http.Response, error) {
	base := strings.TrimRight(f.URL, "/")
	transport := c.via
	switch {
	case transport != nil:
		base = "http://localhost"
	case base != "":
		transport = &http.Transport{DisableKeepAlives: true} // no proxy: the token is for the router
	default:
		if base = ownAddress(cfg.Server); base == "" {
			return nil, errNoRouter
		}
		var err error
		if transport, err = ownTransport(cfg.Server.TLS); err != nil {
			return nil, fmt.Errorf("read the certificate of the router: %w; or name its address with --url", err)
		}
	}
	req, err := c.request(ctx, base)
	if err != nil {
		return nil, err
	}
	token := f.AdminToken
	if token == "" {
		token = string(cfg.Server.AdminToken)
	}
	if token != "" {
		req.Header.Set("X-Admin-Token", token)
	}
	client := http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // nor for others
	}
	res, err := client.Do(req)
	if err != nil {
		var at *url.Error
		if errors.As(err, &at) {
			at.URL, _, _ = strings.Cut(at.URL, "?") // persons stand in it
		}
		return nil, fmt.Errorf("ask the router: %w", err)
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("ask the router at %s: %w", base, err)
	}
	if c.via != nil {
		base = "" // there is none to name
	}
	return nil, refusedQuestion(base, res.StatusCode, data)
}

func (c *routerCall) request(ctx context.Context, base string) (*http.Request, error) {
	body, _ := c.body.(io.Reader)
	kind := "application/octet-stream"
	if body == nil && c.body != nil {
		data, err := json.Marshal(c.body)
		if err != nil {
			return nil, fmt.Errorf("BUG: a request is no JSON: %w", err)
		}
		body, kind = bytes.NewReader(data), "application/json"
	}
	if c.method == "" {
		c.method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, c.method, base+c.path, body)
	if err != nil {
		return nil, usageError{fmt.Errorf("--url: %w", err)}
	}
	if body != nil {
		req.Header.Set("Content-Type", kind)
	}
	return req, nil
}

// absent says whether an error of call means that no router runs, so that its data directory may be read instead.
func (f *routerFlags) absent(err error) bool {
	return f.URL == "" && (errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, errNoRouter))
}

// stored opens the store of a router that does not run, to be read.
func (f *routerFlags) stored(cfg *config.Config) (*store.Store, error) {
	st, err := store.OpenReadOnly(cfg.Server.DataDir, cfg.Server.Encryption.Keys)
	if errors.Is(err, fs.ErrNotExist) {
		where := ""
		if base := ownAddress(cfg.Server); base != "" {
			where = " at " + base
		}
		return nil, fmt.Errorf("no router runs%s, and %s holds no data: name the configuration of the router with --config, or its address with --url", where, cfg.Server.DataDir)
	}
	if err != nil {
		return nil, fmt.Errorf("open the store in %s: %w", cfg.Server.DataDir, err)
	}
	return st, nil
}

// ownAddress is where the router of a configuration can be reached from this machine; "" when it takes any free port.
func ownAddress(s config.Server) string {
	if s.Port == 0 {
		return ""
	}
	host := s.Host
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "http://"
	if s.TLS.Enabled() {
		scheme = "https://"
	}
	return scheme + net.JoinHostPort(host, strconv.Itoa(s.Port))
}

// errNoRouter is for something else that listens where the router was thought to be.
var errNoRouter = errors.New("what answers there is no router, or an older one")

func refusedQuestion(base string, status int, body []byte) error {
	var answer struct{ Message, Error string }
	_ = json.Unmarshal(body, &answer)
	switch {
	case status == http.StatusUnauthorized:
		return fmt.Errorf("the router at %s does not accept the admin token: give the one of its server.admin_token with --admin-token, or in ADMIN_TOKEN", base)
	case answer.Message != "" && base == "":
		return errors.New(line(strings.TrimSpace(answer.Message + ". " + answer.Error)))
	case answer.Message != "":
		return fmt.Errorf("the router at %s answers %d: %s", base, status, line(strings.TrimSpace(answer.Message+" "+answer.Error)))
	default:
		return fmt.Errorf("%w: %s answers %d", errNoRouter, base, status)
	}
}
