package hubspot

import "net/http"

// Address implements [destinations.Addressed].
func (d *Destination) Address(lane string) (method, url string) {
	if lane == laneEvents {
		return http.MethodPost, d.eventsURL + d.paths.send
	}
	_, url = d.contactsCall()
	return http.MethodPost, url
}

// contactsCall is the call that writes contacts.
func (d *Destination) contactsCall() (endpoint, url string) {
	if d.contacts.key == objectIDProperty { // only an existing contact has one
		return endpointUpdate, d.baseURL + d.paths.contacts + "/batch/update"
	}
	return endpointUpsert, d.baseURL + d.paths.contacts + "/batch/upsert"
}
