package sandbox

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// What HubSpot calls the end of an install in its lifecycle events. The names are documented for the webhooks journal, which apps poll;
// that they are also posted, and the event's shape, is modelled on the events of CRM webhooks.
const (
	lifecycleEvent = "APP_LIFECYCLE_EVENT"
	uninstallType  = "4-1916193"
)

const (
	webhookTimeout  = 5 * time.Second
	webhookAttempts = 10
	webhookWait     = time.Minute // before the second attempt; doubled each time
)

// webhook is one event to be posted to an app.
type webhook struct {
	url, secret string
	event       string // up to attemptNumber
	attempt     int    // from 0
}

// announceLocked tells the app's webhook that a hub has uninstalled it.
func (p *provider) announceLocked(in *install) {
	app := p.apps[in.client]
	if app == nil || app.WebhookURL == "" {
		return
	}
	p.webhooks++
	w := &webhook{url: app.WebhookURL, secret: app.ClientSecret, event: fmt.Sprintf(
		`[{"eventId":%d,"subscriptionId":1,"portalId":%s,"appId":%d,"occurredAt":%d,"subscriptionType":"%s","eventTypeId":"%s","sourceId":"userId:%d","attemptNumber":`,
		p.webhooks, in.hub, app.ID, p.now().UnixMilli(), lifecycleEvent, uninstallType, installingUser,
	)}
	time.AfterFunc(0, func() { p.post(w) })
}

// post tells the app, again later when it does not take the event.
func (p *provider) post(w *webhook) {
	body := fmt.Appendf(nil, "%s%d}]", w.event, w.attempt)
	ctx, cancel := context.WithTimeout(context.Background(), webhookTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		panic("BUG: " + err.Error()) // the URL was checked when the app was registered
	}
	at := strconv.FormatInt(p.now().UnixMilli(), 10)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "HubSpot Connect 2.0 (http://dev.hubspot.com/) (namespace: webhooks-nio) - WebhooksExecutorDaemon-executor")
	r.Header.Set("X-HubSpot-Request-Timestamp", at)
	r.Header.Set("X-HubSpot-Signature-Version", "v3")
	r.Header.Set("X-HubSpot-Signature-v3", signatureV3(w.secret, http.MethodPost, w.url, body, at))
	resp, err := p.http.RoundTrip(r)
	if err == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxControl)) // so that the connection serves again
		resp.Body.Close()
		if resp.StatusCode < 300 {
			return
		}
	}
	if w.attempt++; w.attempt < webhookAttempts {
		time.AfterFunc(webhookWait<<(w.attempt-1), func() { p.post(w) })
	}
}

// decoded are the escapes that are written out before a URL is signed.
var decoded = strings.NewReplacer(
	"%3A", ":", "%2F", "/", "%3F", "?", "%40", "@", "%21", "!", "%24", "$", "%27", "'", "%28", "(", "%29", ")", "%2A", "*", "%2C", ",", "%3B", ";",
	"%3a", ":", "%2f", "/", "%3f", "?", "%2a", "*", "%2c", ",", "%3b", ";",
)

// signatureV3 signs method, URL, body and time (milliseconds) with the app's client secret.
func signatureV3(secret, method, url string, body []byte, at string) string {
	path, query, found := strings.Cut(url, "?") // the ? that begins the query stays
	signed := decoded.Replace(path)
	if found {
		signed += "?" + decoded.Replace(query)
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(method + signed))
	mac.Write(body)
	mac.Write([]byte(at))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
