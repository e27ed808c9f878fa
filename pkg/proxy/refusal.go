package proxy

import (
	"encoding/json"
	"math"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
)

// refusal is an answer of the proxy's own.
type refusal struct {
	status  int
	reason  string // of the metric, which lists them
	message string
	detail  string        // where, or what to do
	wait    time.Duration // Retry-After; 0: none
	policy  string        // HubSpot's name of the quota that is used up, by which its clients know whether to come again; "": another matter
}

func (r *refusal) answer(ctx *fasthttp.RequestCtx) {
	ctx.SetStatusCode(r.status)
	ctx.Response.Header.SetContentType("application/json; charset=utf-8")
	if r.wait > 0 {
		ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, strconv.Itoa(int(math.Ceil(r.wait.Seconds()))))
	}
	body, _ := json.Marshal(struct { // of strings: can not fail
		Message string `json:"message"`
		Error   string `json:"error"`
		Policy  string `json:"policyName,omitempty"`
	}{r.message, r.detail, r.policy})
	ctx.SetBody(body)
}
