package destinations

import "testing"

// TestGatewaysAnswers: of these statuses an entry waits without being charged, of all others it is.
func TestGatewaysAnswers(t *testing.T) {
	gateway := map[int]bool{
		502: true, 503: true, 504: true,
		520: true, 521: true, 522: true, 523: true, 524: true, 525: true, 526: true, 527: true, 528: true, 529: true,
	}
	for status := 100; status < 600; status++ {
		if got := AnsweredByGateway(status); got != gateway[status] {
			t.Errorf("status %d: %v, want %v", status, got, gateway[status])
		}
	}
}
