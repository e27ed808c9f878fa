package segment

// field is a member of a message that has a meaning.
type field uint8

const (
	otherField field = iota
	fType
	fEvent
	fEventType
	fName
	fCategory
	fUserID
	fAnonymousID
	fPreviousID
	fGroupID
	fTraits
	fProperties
	fContext
	fTimestamp
	fOriginalTimestamp
	fSentAt
	fMessageID
	fFlatEventID
	fEventID
	fWriteKey
	fSourceIP
	numFields
)

func fieldOf(name []byte) field {
	switch string(name) {
	case "type":
		return fType
	case "event":
		return fEvent
	case "event_type":
		return fEventType
	case "name":
		return fName
	case "category":
		return fCategory
	case "userId":
		return fUserID
	case "anonymousId":
		return fAnonymousID
	case "previousId":
		return fPreviousID
	case "groupId":
		return fGroupID
	case "traits":
		return fTraits
	case "properties":
		return fProperties
	case "context":
		return fContext
	case "timestamp":
		return fTimestamp
	case "originalTimestamp":
		return fOriginalTimestamp
	case "sentAt":
		return fSentAt
	case "messageId":
		return fMessageID
	case "eventn_ctx_event_id":
		return fFlatEventID
	case "event_id":
		return fEventID
	case "source_ip":
		return fSourceIP
	case "writeKey", "api_key":
		return fWriteKey
	}
	return otherField
}

// contextField is a member of a message's context that has a meaning.
type contextField uint8

const (
	otherContext contextField = iota
	cPage
	cCampaign
	cUserAgent
	cLocale
	cIP
	cLocation
	cOS
	cDevice
	cScreen
	cReferrer
	cTraits
	numContext
)

func contextFieldOf(name []byte) contextField {
	switch string(name) {
	case "page":
		return cPage
	case "campaign":
		return cCampaign
	case "userAgent":
		return cUserAgent
	case "locale":
		return cLocale
	case "ip":
		return cIP
	case "location":
		return cLocation
	case "os":
		return cOS
	case "device":
		return cDevice
	case "screen":
		return cScreen
	case "referrer":
		return cReferrer
	case "traits":
		return cTraits
	}
	return otherContext
}

// topName is a name at the top level of a canonical event that properties may collide with.
type topName uint8

const (
	freeName topName = iota
	// reservedName is one that says something of the event itself: a property of that name stays where it was sent.
	reservedName

	// Names of what the message itself says: there it goes before a property.
	tGroup
	tGroupID

	// Names of what the context says, or of little weight: there a property goes before.
	tDoc
	tUTM
	tPageTitle
	tReferer
	tURL
	tLanguage
	tLocation
	tParsedUA
	tScreen
	tName
	tCategory
)

func topNameOf(name []byte) topName {
	switch string(name) {
	case "event_type", "event_id", "eventn_ctx", "eventn_ctx_event_id", "user", "ids", "previous_id", "api_key", "writeKey", "src", "source_ip",
		"user_agent", "utc_time", "timestamp", "_timestamp", "__HTTP_CONTEXT__", "segment", "rudderstack", "jitsu":
		return reservedName
	case "group":
		return tGroup
	case "group_id":
		return tGroupID
	case "doc":
		return tDoc
	case "utm":
		return tUTM
	case "page_title":
		return tPageTitle
	case "referer":
		return tReferer
	case "url":
		return tURL
	case "user_language":
		return tLanguage
	case "location":
		return tLocation
	case "parsed_ua":
		return tParsedUA
	case "screen_resolution":
		return tScreen
	case "name":
		return tName
	case "category":
		return tCategory
	}
	return freeName
}

// topNames is a set of names.
type topNames uint32

func (s topNames) has(n topName) bool { return s&(1<<n) != 0 }
func (s *topNames) add(n topName)     { *s |= 1 << n }
