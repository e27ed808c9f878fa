package sandbox

import (
	"fmt"
	"net/http"
	"slices"
)

// accountInfo answers GET /account-info/v3/details, which tells whose midnight ends the day's quota.
func (st *state) accountInfo(*call) answer {
	_, offset := st.now.at.In(st.opts.TimeZone).Zone()
	sign := '+'
	if offset < 0 {
		sign, offset = '-', -offset
	}
	ms := offset * 1000
	if sign == '-' {
		ms = -ms
	}
	body := fmt.Appendf(nil, `{"portalId":%s,"accountType":"STANDARD","timeZone":"%s","companyCurrency":"USD","additionalCurrencies":[],`+
		`"utcOffset":"%c%02d:%02d","utcOffsetMilliseconds":%d,"uiDomain":"app.hubspot.com","dataHostingLocation":"na1"}`,
		st.opts.HubID, st.opts.TimeZone, sign, offset/3600, offset/60%60, ms)
	return answer{status: http.StatusOK, body: body}
}

// tokenScopes are the scopes that a token can have here.
var tokenScopes = []string{readContacts, writeContacts, readSchemas, writeSchemas, sendEvents, eventDefinition}

// tokenInfo answers POST oauth/v2/private-apps/get/access-token-info: what the token in the body may do. It changes nothing.
func (st *state) tokenInfo(c *call) answer {
	token := c.json.Get("tokenKey").String()
	switch {
	case token == "":
		return st.fail(badInput("Some required fields were not set: [tokenKey]"))
	case st.opts.NoTokenInfo || isOAuth(token):
		return st.fail(missing("resource not found")) // modelled
	case st.opts.Token != "" && token != st.opts.Token:
		return st.fail(&apiError{status: http.StatusUnauthorized, category: invalidAuth, message: "The access token is unknown"}) // modelled
	}
	b := fmt.Appendf(nil, `{"userId":1,"hubId":%s,"appId":19083857,"scopes":[`, st.opts.HubID)
	n := 0
	for _, s := range tokenScopes {
		if slices.Contains(st.opts.MissingScopes, s) {
			continue
		}
		if n++; n > 1 {
			b = append(b, ',')
		}
		b = appendString(b, s)
	}
	return answer{status: http.StatusOK, body: append(b, "]}"...)}
}
