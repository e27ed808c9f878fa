package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// optionsView are the Options that can be changed while the sandbox runs, as JSON. A member that a change leaves out stays as it is.
type optionsView struct {
	HubID           string        `json:"hub_id"` // can not be changed
	Burst           int           `json:"burst"`
	BurstWindowMS   int64         `json:"burst_window_ms"`
	Daily           int           `json:"daily"`
	TimeZone        string        `json:"time_zone"`
	EventsPerSecond int           `json:"events_per_second"`
	LagMS           int64         `json:"lag_ms"`
	Enterprise      bool          `json:"enterprise"`
	MissingScopes   []string      `json:"missing_scopes"`
	Required        []Requirement `json:"required"`
	KeepOldEmail    bool          `json:"keep_old_email"`
	TokenInfo       bool          `json:"token_info"`
	LifecycleStage  string        `json:"lifecycle_stage"`
	// Of apps. What tokens are like is read from the options of the whole sandbox, not from a hub's.
	AppBurst            int   `json:"app_burst"` // 0: no limit
	AccessTokenSeconds  int64 `json:"access_token_seconds"`
	RotateRefreshTokens bool  `json:"rotate_refresh_tokens"`

	AutoContactFromEvent         bool `json:"auto_contact_from_event"`
	AcceptUnknownEventProperties bool `json:"accept_unknown_event_properties"`
	StrictUUID                   bool `json:"strict_uuid"`
	// BadEvents is refuse_batch, drop_silently, name_partly or count_partly.
	BadEvents string `json:"bad_events"`
}

// badEventNames are the names of BadEvents, in their order.
var badEventNames = []string{"refuse_batch", "drop_silently", "name_partly", "count_partly"}

func (o *Options) view() optionsView {
	return optionsView{
		HubID: o.HubID, Burst: o.Burst, BurstWindowMS: o.BurstWindow.Milliseconds(), Daily: o.Daily, TimeZone: o.TimeZone.String(),
		EventsPerSecond: o.EventsPerSecond, LagMS: o.Lag.Milliseconds(), Enterprise: !o.NoEnterprise,
		MissingScopes: append([]string{}, o.MissingScopes...), Required: append([]Requirement{}, o.Required...),
		KeepOldEmail: o.KeepOldEmail, TokenInfo: !o.NoTokenInfo, LifecycleStage: o.LifecycleStage,
		AppBurst: o.appBurst(), AccessTokenSeconds: int64(o.tokenLife() / time.Second), RotateRefreshTokens: o.RotateRefreshTokens,
		AutoContactFromEvent: o.AutoContactFromEvent, AcceptUnknownEventProperties: o.AcceptUnknownEventProperties, StrictUUID: o.StrictUUID,
		BadEvents: badEventNames[o.BadEvents],
	}
}

// apply checks v and takes it over into o.
func (v *optionsView) apply(o *Options) error {
	most := maxDelay.Milliseconds()
	switch {
	case v.HubID != o.HubID:
		return errors.New("hub_id can not be changed")
	case v.Burst < 0 || v.Daily < 0 || v.EventsPerSecond < 0 || v.AppBurst < 0:
		return errors.New("burst, daily, events_per_second and app_burst must not be negative; 0 is no limit")
	case v.AccessTokenSeconds < 1 || v.AccessTokenSeconds > maxTokenSeconds:
		return fmt.Errorf("access_token_seconds must be from 1 to %d", maxTokenSeconds)
	case v.BurstWindowMS < 1 || v.BurstWindowMS > most:
		return fmt.Errorf("burst_window_ms must be from 1 to %d", most)
	case v.LagMS < 0 || v.LagMS > most:
		return fmt.Errorf("lag_ms must be from 0 to %d", most)
	case !slices.Contains(badEventNames, v.BadEvents):
		return fmt.Errorf("bad_events must be one of %v", badEventNames)
	}
	for _, scope := range v.MissingScopes {
		if !slices.Contains(tokenScopes, scope) {
			return fmt.Errorf("missing_scopes: %.100q is none of %v", scope, tokenScopes)
		}
	}
	for _, r := range v.Required {
		if r.Property == "" || r.When == "" && r.Equals != "" {
			return errors.New("required: each rule needs property, and equals goes with when")
		}
	}
	zone := o.TimeZone
	if v.TimeZone != zone.String() {
		var err error
		if zone, err = time.LoadLocation(v.TimeZone); err != nil || v.TimeZone == "" || v.TimeZone == "Local" {
			return errors.New("time_zone must be a name of the IANA time zone database, such as Europe/Berlin")
		}
	}
	o.Burst, o.BurstWindow, o.Daily, o.TimeZone = v.Burst, time.Duration(v.BurstWindowMS)*time.Millisecond, v.Daily, zone
	o.EventsPerSecond, o.Lag = v.EventsPerSecond, time.Duration(v.LagMS)*time.Millisecond
	o.NoEnterprise, o.NoTokenInfo = !v.Enterprise, !v.TokenInfo
	o.MissingScopes, o.Required = v.MissingScopes, v.Required
	if o.AppBurst = v.AppBurst; v.AppBurst == 0 {
		o.AppBurst = -1
	}
	o.AccessTokenLife, o.RotateRefreshTokens = time.Duration(v.AccessTokenSeconds)*time.Second, v.RotateRefreshTokens
	o.KeepOldEmail, o.LifecycleStage = v.KeepOldEmail, v.LifecycleStage
	o.AutoContactFromEvent, o.AcceptUnknownEventProperties, o.StrictUUID = v.AutoContactFromEvent, v.AcceptUnknownEventProperties, v.StrictUUID
	o.BadEvents = BadEvents(slices.Index(badEventNames, v.BadEvents))
	return nil
}

// Options returns the options as they are now.
func (s *Sandbox) Options() Options {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opts
}

// patchOptions changes what the body names, until Reset. What was counted in the quotas stays counted.
func (s *Sandbox) patchOptions(w http.ResponseWriter, r *http.Request) {
	var body json.RawMessage
	if !readControl(w, r, &body) { // without the lock: it waits for the client
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.opts.view()
	if err := decodeControl(body, &v); err != nil {
		refuseControl(w, err)
		return
	}
	if stage := v.LifecycleStage; stage != "" {
		if _, ok := s.st.properties.truth["lifecyclestage"].options[stage]; !ok {
			refuseControl(w, fmt.Errorf("lifecycle_stage %.100q is no option of lifecyclestage", stage))
			return
		}
	}
	if err := v.apply(&s.opts); err != nil {
		refuseControl(w, err)
		return
	}
	s.st.quota.setLimits(&s.opts)
	writeView(w, http.StatusOK, s.opts.view())
}
