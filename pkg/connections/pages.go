package connections

import (
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
)

// outcome is how it ended when somebody wanted to connect an account. word stands in the address that the browser is sent back to, and in metrics.
type outcome struct {
	word   string
	status int
	detail string // what the page adds, in no language: scopes

	hub, account string // which ones are connected, as people know them; "" for every other outcome
}

// Outcomes. Words of a language stand in texts.
var (
	outcomeConnected     = outcome{word: "connected", status: http.StatusOK}
	outcomeDenied        = outcome{word: "denied", status: http.StatusOK}
	outcomeScopes        = outcome{word: "scopes_missing", status: http.StatusForbidden}
	outcomeRefused       = outcome{word: "refused", status: http.StatusBadRequest}
	outcomeExpired       = outcome{word: "expired", status: http.StatusBadRequest}
	outcomeUsed          = outcome{word: "used", status: http.StatusBadRequest}
	outcomeForeign       = outcome{word: "foreign", status: http.StatusBadRequest}
	outcomeOtherBrowser  = outcome{word: "other_browser", status: http.StatusBadRequest}
	outcomeBadLink       = outcome{word: "link_invalid", status: http.StatusBadRequest}
	outcomeOldLink       = outcome{word: "link_expired", status: http.StatusBadRequest}
	outcomeUsedLink      = outcome{word: "link_used", status: http.StatusBadRequest}
	outcomeMisconfigured = outcome{word: "unavailable", status: http.StatusInternalServerError}
	outcomeUnavailable   = outcome{word: "unavailable", status: http.StatusServiceUnavailable}
)

// words are a title and a text; %s is the product, %[2]s the hub and %[3]s the account.
type words struct{ title, text string }

var texts = map[string]map[string]words{
	"en": {
		"connected":      {"Connected", "HubSpot is connected to %[1]s: HubSpot account %[2]s, for the account %[3]s. You can close this page. If that is not your account there, uninstall the app in HubSpot’s settings."},
		"denied":         {"Not connected", "You did not allow %s to use your HubSpot account. Nothing was changed. You can start again where you came from."},
		"scopes_missing": {"Not connected", "HubSpot did not grant %s everything that it needs, so nothing was connected. Ask an administrator of your HubSpot account to connect it. What is missing:"},
		"refused":        {"Not connected", "HubSpot did not confirm the connection to %s. Please start again where you came from."},
		"expired":        {"Too late", "It took too long to connect %s. Please start again where you came from."},
		"used":           {"Already used", "This page was used already. See in %s whether HubSpot is connected; if not, please start again there."},
		"foreign":        {"Not connected", "This address was not made by this service for %s, or it is not complete. Please start again where you came from."},
		"other_browser":  {"Not connected", "You began to connect %s in another browser, or cookies are blocked. Please start again where you came from, and stay in one browser."},
		"link_invalid":   {"Link not valid", "This link to connect %s is not complete. Please ask for a new one where you came from."},
		"link_used":      {"Link already used", "HubSpot was connected to %s, or disconnected, since this link was made. If you want to change that, please ask for a new one where you came from."},
		"link_expired":   {"Link too old", "This link to connect %s is too old. Please ask for a new one where you came from."},
		"unavailable":    {"Not connected", "HubSpot can not be connected to %s at present. Please try again later; the people who run this service can see why."},
	},
	"de": {
		"connected":      {"Verbunden", "HubSpot ist mit %[1]s verbunden: HubSpot-Konto %[2]s, für das Konto %[3]s. Sie können diese Seite schließen. Ist das nicht Ihr Konto dort, deinstallieren Sie die App in den Einstellungen von HubSpot."},
		"denied":         {"Nicht verbunden", "Sie haben %s nicht erlaubt, Ihr HubSpot-Konto zu verwenden. Es wurde nichts geändert. Sie können dort, woher Sie kamen, neu beginnen."},
		"scopes_missing": {"Nicht verbunden", "HubSpot hat %s nicht alles erlaubt, was nötig ist; es wurde nichts verbunden. Bitten Sie jemanden, der Ihr HubSpot-Konto verwaltet, es zu verbinden. Es fehlt:"},
		"refused":        {"Nicht verbunden", "HubSpot hat die Verbindung mit %s nicht bestätigt. Bitte beginnen Sie dort neu, woher Sie kamen."},
		"expired":        {"Zu spät", "Es hat zu lange gedauert, %s zu verbinden. Bitte beginnen Sie dort neu, woher Sie kamen."},
		"used":           {"Schon benutzt", "Diese Seite wurde schon benutzt. Sehen Sie in %s nach, ob HubSpot verbunden ist; wenn nicht, beginnen Sie dort bitte neu."},
		"foreign":        {"Nicht verbunden", "Diese Adresse hat nicht dieser Dienst für %s erstellt, oder sie ist unvollständig. Bitte beginnen Sie dort neu, woher Sie kamen."},
		"other_browser":  {"Nicht verbunden", "Sie haben %s in einem anderen Browser zu verbinden begonnen, oder Cookies sind gesperrt. Bitte beginnen Sie dort neu, woher Sie kamen, und bleiben Sie in einem Browser."},
		"link_invalid":   {"Link ungültig", "Dieser Link, um %s zu verbinden, ist unvollständig. Bitte fordern Sie dort, woher Sie kamen, einen neuen an."},
		"link_used":      {"Link schon benutzt", "HubSpot wurde mit %s verbunden oder getrennt, seit dieser Link erstellt wurde. Wenn Sie das ändern wollen, fordern Sie bitte dort, woher Sie kamen, einen neuen an."},
		"link_expired":   {"Link zu alt", "Dieser Link, um %s zu verbinden, ist zu alt. Bitte fordern Sie dort, woher Sie kamen, einen neuen an."},
		"unavailable":    {"Nicht verbunden", "HubSpot kann zurzeit nicht mit %s verbunden werden. Bitte versuchen Sie es später; wer diesen Dienst betreibt, sieht den Grund."},
	},
}

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Parse(pageText))

// pageData is what the page shows, and what its script tells the connect page that has opened it: see package portal, which serves that script.
type pageData struct{ Language, App, Outcome, Title, Text, Detail string }

// show ends with a browser: it is sent back to where it came from if that is known and allowed still, with the outcome's word, and else sees a page that says it.
func (s *Service) show(w http.ResponseWriter, r *http.Request, ap *app, o outcome, returnURL string) {
	if returnURL != "" && ap.mayReturn(returnURL) {
		u, err := url.Parse(returnURL)
		if err == nil {
			q := u.Query()
			q.Set("connection", o.word)
			u.RawQuery = q.Encode()
			w.Header().Set("Location", u.String())
			w.WriteHeader(http.StatusSeeOther)
			return
		}
	}
	language := languageOf(r)
	said := texts[language][o.word]
	names := []any{ap.cfg.Portal.Title}
	if o.hub != "" {
		names = append(names, o.hub, o.account)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Language", language)
	w.Header().Set("Vary", "Accept-Language")
	w.WriteHeader(o.status)
	_ = page.Execute(w, pageData{language, ap.cfg.Name, o.word, said.title, fmt.Sprintf(said.text, names...), o.detail}) // to a buffer of the server's
}

// languageOf is the first of the page's languages that a browser names; else English.
func languageOf(r *http.Request) string {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Language"), ",") {
		tag, _, _ := strings.Cut(strings.TrimSpace(part), ";")
		tag, _, _ = strings.Cut(strings.ToLower(tag), "-")
		if _, ok := texts[tag]; ok {
			return tag
		}
	}
	return "en"
}

// protect sets what keeps the pages from being framed, cached, or named to others.
func protect(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Robots-Tag", "noindex")
}
