package connections

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"eventrouter/pkg/config"
)

const (
	// signatureAge is how old a request of HubSpot's may be.
	signatureAge   = 5 * time.Minute
	maxWebhook     = 1 << 20
	maxWebhookList = 1000
	uninstallType  = "4-1916193" // HubSpot's id of an app's uninstalling
)

// signed are the escapes that HubSpot writes out before it signs an address; the ? that begins the query stands apart.
var signed = strings.NewReplacer(
	"%3A", ":", "%3a", ":", "%2F", "/", "%2f", "/", "%3F", "?", "%3f", "?", "%40", "@", "%21", "!", "%24", "$", "%27", "'", "%28", "(", "%29", ")",
	"%2A", "*", "%2a", "*", "%2C", ",", "%2c", ",", "%3B", ";", "%3b", ";",
)

var errSignature = errors.New("the signature does not match the app's client secret and the address that HubSpot calls")

// checkSignature checks that a request is HubSpot's, by signature version 3. address is the one that HubSpot called.
func checkSignature(secret config.Secret, method, address string, body []byte, header http.Header, now time.Time) error {
	stamp := header.Get("X-HubSpot-Request-Timestamp")
	ms, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || ms <= 0 || ms > 1<<53 {
		return errors.New("X-HubSpot-Request-Timestamp is missing or no time")
	}
	if age := now.Sub(time.UnixMilli(ms)); age > signatureAge || age < -signatureAge {
		return errors.New("the request is older than five minutes, or the clocks differ")
	}
	path, query, hasQuery := strings.Cut(address, "?")
	text := signed.Replace(path)
	if hasQuery {
		text += "?" + signed.Replace(query)
	}
	mac := hmac.New(sha256.New, []byte(secret))
	io.WriteString(mac, method+text)
	mac.Write(body)
	io.WriteString(mac, stamp)
	got, err := base64.StdEncoding.DecodeString(header.Get("X-HubSpot-Signature-v3"))
	if err != nil || !hmac.Equal(got, mac.Sum(nil)) {
		return errSignature
	}
	return nil
}

// uninstalled is one event that says that an app was uninstalled.
type uninstalled struct {
	hub string
	at  time.Time // zero: it does not say
}

// webhookEvent is as HubSpot posts it. What is documented of its events differs between its APIs, so each form is read.
type webhookEvent struct {
	PortalID         json.Number `json:"portalId"`
	HubID            json.Number `json:"hubId"`
	OccurredAt       any         `json:"occurredAt"`
	SubscriptionType string      `json:"subscriptionType"`
	EventType        string      `json:"eventType"`
	EventTypeID      string      `json:"eventTypeId"`
}

// decodeWebhook returns the uninstalls that a body tells of: it is one event or a list of them. Other events are left out.
func decodeWebhook(body []byte) (found []uninstalled, err error) {
	body = bytes.TrimSpace(body)
	var list []webhookEvent
	if len(body) > 0 && body[0] == '{' {
		list = make([]webhookEvent, 1)
		err = json.Unmarshal(body, &list[0])
	} else {
		err = json.Unmarshal(body, &list)
	}
	if err != nil || len(list) > maxWebhookList {
		return nil, errors.New("the body is no event of HubSpot's, and no list of them")
	}
	for i := range list {
		e := &list[i]
		if !e.uninstalls() {
			continue
		}
		hub := hubName(e.PortalID.String())
		if hub == "" {
			hub = hubName(e.HubID.String())
		}
		if hub != "" {
			found = append(found, uninstalled{hub, occurred(e.OccurredAt)})
		}
	}
	return found, nil
}

func (e *webhookEvent) uninstalls() bool {
	if e.EventTypeID == uninstallType {
		return true
	}
	for _, name := range []string{e.SubscriptionType, e.EventType} {
		letters := strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' {
				return r
			}
			return -1
		}, strings.ToLower(name))
		if strings.Contains(letters, "uninstall") {
			return true
		}
	}
	return false
}

// occurred reads a time in milliseconds or as ISO 8601.
func occurred(v any) time.Time {
	switch v := v.(type) {
	case float64:
		if v > 0 && v < 1<<53 {
			return time.UnixMilli(int64(v))
		}
	case string:
		if at, err := time.Parse(time.RFC3339, v); err == nil {
			return at
		}
	}
	return time.Time{}
}

// webhook takes what HubSpot posts about an app. It answers when all is written down, so that HubSpot posts it again otherwise.
func (s *Service) webhook(w http.ResponseWriter, r *http.Request, ap *app) {
	refuse := func(status int, outcome, text string) {
		s.metrics.uninstall.WithLabelValues(ap.cfg.Name, outcome).Inc()
		answerJSON(w, status, problem{text, ""})
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxWebhook+1))
	if err != nil || len(body) > maxWebhook {
		refuse(http.StatusRequestEntityTooLarge, "too_large", "the body is too large")
		return
	}
	address := ap.home + "hubspot"
	if strings.HasSuffix(r.URL.Path, "/") {
		address += "/"
	}
	if _, query, ok := strings.Cut(r.RequestURI, "?"); ok {
		address += "?" + query
	}
	if err := checkSignature(ap.cfg.ClientSecret, r.Method, address, body, r.Header, s.opts.Now()); err != nil {
		refuse(http.StatusUnauthorized, "not_signed", err.Error())
		return
	}
	found, err := decodeWebhook(body)
	if err != nil {
		refuse(http.StatusBadRequest, "malformed", err.Error())
		return
	}
	for _, u := range found {
		for _, a := range s.ofHub(ap.cfg.Name, u.hub) {
			if err := s.markUninstalled(r.Context(), a, u); err != nil {
				refuse(http.StatusServiceUnavailable, "failed", "it can not be written down: try again later")
				return
			}
		}
	}
	s.metrics.uninstall.WithLabelValues(ap.cfg.Name, "taken").Inc()
	w.WriteHeader(http.StatusNoContent)
}

// markUninstalled notes that the app of an account was uninstalled, unless its people have granted it since: HubSpot posts for a day what it could not deliver.
func (s *Service) markUninstalled(ctx context.Context, a *account, u uninstalled) error {
	if err := a.take(ctx); err != nil {
		return err
	}
	defer a.release()
	a.mu.Lock()
	row := a.row
	a.mu.Unlock()
	if row.Hub != u.hub || Status(row.Status) != Connected || !u.at.IsZero() && u.at.Before(row.Granted) {
		return nil
	}
	s.tell(*s.lost(a, row, ReasonUninstalled, ReasonUninstalled))
	return nil
}
