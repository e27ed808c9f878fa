// Package portal is what the people of an account see: a page where they connect their HubSpot account, see how it stands, choose what is sent there, and disconnect, with
// the routes that it calls; and connect.js, which shows that page inside the team's own.
//
//	team's page ─ connect.js ─▶ /connect/{app}/portal ─ token ─▶ /api/v1/apps/{app}/connection
//	                                  └─ a window ─▶ start ─▶ HubSpot ─▶ callback ─ done.js ─▶ the page
//
// Who they are, a token of the team says, which never stands in an address that is kept: the page takes it out of its own at once. There are no cookies but that of the
// window, which is a page of its own, so that nothing depends on what browsers let embedded pages keep.
package portal

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"io"
	"net/http"
	"strings"

	"eventrouter/pkg/config"
	"eventrouter/pkg/connections"
)

// Options of a Portal.
type Options struct {
	// App returns an app by its name, as it is configured now.
	App func(name string) (config.App, bool)
	// Verify returns the account that a token speaks for. Its error is one of package endusers.
	Verify func(app string, token []byte) (account string, err error)
	// Connections are the accounts.
	Connections *connections.Service
}

// Portal is the connect page and its routes. Many goroutines may use it.
type Portal struct{ opts Options }

// New returns a Portal.
func New(o Options) *Portal { return &Portal{o} }

//go:embed connect.js connect.d.ts portal.html portal.css portal.js done.js
var files embed.FS

// asset is a file that is the same for everybody.
type asset struct {
	body     []byte
	kind     string
	tag      string
	anywhere bool // pages of other sites use it
}

var assets = map[string]asset{
	"connect.js":   load("connect.js", "text/javascript", true),
	"connect.d.ts": load("connect.d.ts", "text/plain", true),
	"portal.css":   load("portal.css", "text/css", false),
	"portal.js":    load("portal.js", "text/javascript", false),
	"done.js":      load("done.js", "text/javascript", false),
}

func load(name, kind string, anywhere bool) asset {
	body, err := files.ReadFile(name)
	if err != nil {
		panic(err) // it is not in the program
	}
	sum := sha256.Sum256(body)
	return asset{body, kind + "; charset=utf-8", `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`, anywhere}
}

var page = template.Must(template.ParseFS(files, "portal.html"))

// Pages answers below connections.PagesPath with the page and its files, and has next answer all else there.
func (p *Portal) Pages(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, connections.PagesPath)
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead
		if a, ok := assets[path]; ok && reads {
			a.serve(w, r)
			return
		}
		name, rest, _ := strings.Cut(path, "/")
		if strings.TrimSuffix(rest, "/") != "portal" || !reads {
			next.ServeHTTP(w, r)
			return
		}
		if cfg, ok := p.opts.App(name); ok {
			show(w, r, cfg)
			return
		}
		refuse(w, connections.ErrNoApp)
	})
}

func (a asset) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "public, no-cache") // asked for each time, sent when it is another one
	h.Set("ETag", a.tag)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if a.anywhere {
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
		h.Set("Access-Control-Allow-Origin", "*")
	}
	if known := r.Header.Get("If-None-Match"); known == "*" || strings.Contains(known, a.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", a.kind)
	_, _ = w.Write(a.body) // to a buffer of the server's
}

// pageData is what the page is made of. Data is what its script reads.
type pageData struct {
	Language string
	Words    words
	Data     scriptData
}

type scriptData struct {
	App      string   `json:"app"`
	Language string   `json:"language"`
	Parents  []string `json:"parents"`
	Words    words    `json:"words"`
}

// show answers with the page. It is the same for all accounts: the token is for the page's script alone.
func show(w http.ResponseWriter, r *http.Request, cfg config.App) {
	language := languageOf(r)
	said := inLanguage(language, cfg.Portal.Title)
	var body bytes.Buffer
	if err := page.Execute(&body, pageData{language, said, scriptData{cfg.Name, language, append([]string{}, cfg.Portal.Parents...), said}}); err != nil {
		answerJSON(w, http.StatusInternalServerError, problem{"The page can not be made", ""})
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", policy(cfg.Portal.Parents))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Robots-Tag", "noindex")
	h.Set("Content-Language", language)
	h.Set("Vary", "Accept-Language")
	h.Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(body.Bytes()) // to a buffer of the server's
}

// policy lets the page's own files run and call this router, and nothing else, and lets the parents embed it.
func policy(parents []string) string {
	ancestors := "'none'"
	if len(parents) > 0 {
		ancestors = strings.Join(parents, " ")
	}
	return "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; " +
		"require-trusted-types-for 'script'; frame-ancestors " + ancestors
}

// problem is a refusal, in the form of all that the router refuses.
type problem struct {
	Message string `json:"message"`
	Error   string `json:"error"` // where, or what to do
}

// notFound is the answer that the router has for every path that it does not know.
func notFound(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusNotFound)
	_, _ = io.WriteString(w, "404 page not found")
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // to a buffer of the server's
}
