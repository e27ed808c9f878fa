package webhook

import (
	"encoding/base64"
	"encoding/json"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// clean takes out of a text what may be a secret: of the settings, and of the request, which an endpoint may repeat.
func (d *Destination) clean(c *call, text string) string {
	hidden := slices.Clone(d.hidden)
	for _, h := range c.target.headers {
		hidden = appendSecret(hidden, h.value)
	}
	if c.target.made {
		hidden = appendURLSecrets(hidden, c.target.url)
	}
	for signature := range strings.SplitSeq(c.signature, " ") {
		hidden = appendSecret(hidden, strings.TrimPrefix(signature, "v1,"))
	}
	return hide(text, hidden)
}

// shortestHidden is the length from which on a text is looked for in others: shorter ones would be found in harmless words.
const shortestHidden = 6

// appendSecret appends a text, what stands behind its first word, such as that of Authorization, and what that says in base64, as of Basic, in the spellings in which
// an endpoint may repeat them.
func appendSecret(hidden []string, text string) []string {
	all := []string{text}
	if _, behind, _ := strings.Cut(text, " "); behind != "" {
		all = append(all, behind)
		if plain, err := base64.StdEncoding.DecodeString(behind); err == nil && utf8.Valid(plain) {
			_, password, _ := strings.Cut(string(plain), ":")
			all = append(all, string(plain), password)
		}
	}
	for _, s := range all {
		if s = strings.TrimSpace(s); len(s) >= shortestHidden {
			hidden = append(hidden, s)
			hidden = append(hidden, spellings(s)...)
		}
	}
	return hidden
}

// spellings are a text as it stands in JSON, HTML and addresses, where that differs.
func spellings(s string) (all []string) {
	inJSON, inPHP := jsonText(s, false), strings.ReplaceAll(jsonText(s, false), "/", `\/`)
	inHTML := html.EscapeString(s)
	for _, spelling := range [...]string{
		inJSON, inPHP, jsonText(s, true), inHTML, strings.NewReplacer("&#34;", "&quot;", "&#39;", "&apos;").Replace(inHTML), url.QueryEscape(s), url.PathEscape(s),
	} {
		if spelling != s && !slices.Contains(all, spelling) {
			all = append(all, spelling)
		}
	}
	return all
}

// jsonText is what stands between the quotes of a JSON text.
func jsonText(s string, escapeHTML bool) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(escapeHTML)
	_ = enc.Encode(s) // of a text it does not fail
	return strings.TrimSuffix(strings.TrimPrefix(b.String(), `"`), "\"\n")
}

// appendURLSecrets appends what of a URL may be a secret.
func appendURLSecrets(hidden []string, text string) []string {
	u, err := url.Parse(text)
	if err != nil {
		return hidden
	}
	for _, values := range u.Query() {
		for _, v := range values {
			hidden = appendSecret(appendSecret(hidden, v), url.QueryEscape(v))
		}
	}
	for segment := range strings.SplitSeq(u.EscapedPath(), "/") {
		if isKey(segment) {
			hidden = append(hidden, segment)
		}
	}
	return hidden
}

var (
	placeInURL   = regexp.MustCompile(`\{\{.*?\}\}`)
	valueInQuery = regexp.MustCompile(`[?&][^=&#]*=([^&#\x00]*)`)
)

// appendTemplateSecrets appends what the configuration's own text of a URL may hold of secrets: values of its query, and long segments of its path. What events put
// into it is none.
func appendTemplateSecrets(hidden []string, src string) []string {
	text := placeInURL.ReplaceAllString(src, "\x00")
	for _, m := range valueInQuery.FindAllStringSubmatch(text, -1) {
		hidden = appendSecret(hidden, m[1])
		if plain, err := url.QueryUnescape(m[1]); err == nil {
			hidden = appendSecret(hidden, plain)
		}
	}
	path, _, _ := strings.Cut(text, "?")
	for segment := range strings.SplitSeq(path, "/") {
		if isKey(segment) {
			hidden = append(hidden, segment)
		}
	}
	return hidden
}

// secrets are the texts of the settings that nobody is shown.
func (d *Destination) secrets() (all []string) {
	for _, s := range d.set.Secret {
		all = appendSecret(appendSecret(all, string(s)), strings.TrimPrefix(string(s), secretPrefix))
	}
	for _, h := range d.headers {
		if h.constant {
			all = appendSecret(all, h.value)
		}
	}
	if u, err := url.Parse(string(d.set.Proxy)); err == nil && u.User != nil {
		password, _ := u.User.Password()
		all = appendSecret(appendSecret(all, password), u.User.String())
	}
	return appendTemplateSecrets(all, d.set.URL)
}

// hide writes *** for each of the secrets in a text, the longest first. At its end, where the text was cut, there may be the beginning of one.
func hide(text string, secrets []string) string {
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	pairs := make([]string, 0, 2*len(secrets))
	for _, s := range secrets {
		pairs = append(pairs, s, "***")
	}
	if len(text) >= maxAnswer {
		for _, s := range secrets {
			for n := min(len(s), len(text)); n > 0; n-- {
				if strings.HasSuffix(text, s[:n]) {
					text = text[:len(text)-n]
					break
				}
			}
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}
