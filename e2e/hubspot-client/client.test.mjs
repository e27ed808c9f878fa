// HubSpot's official client against the sandbox: what the client makes of the sandbox's answers must be what it makes of HubSpot's.
// ../official_test.go starts the sandboxes and sets the addresses.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, beforeEach, describe, test } from 'node:test'
import { Client } from '@hubspot/api-client'

const { SANDBOX_URL, SANDBOX_BURST_URL, SANDBOX_DAILY_URL, SANDBOX_ENDPOINTS } = process.env
const client = (basePath, more) => new Client({ basePath, accessToken: 'pat-na1-test', ...more })
const hubspot = client(SANDBOX_URL)
const { contacts, properties } = hubspot.crm

const view = async (path) => (await fetch(`${SANDBOX_URL}/_sandbox${path}`)).json()
const contact = async (email) => (await view(`/contacts?email=${encodeURIComponent(email)}`)).results[0]
const inject = async (fault) => {
  const answer = await fetch(`${SANDBOX_URL}/_sandbox/faults`, { method: 'POST', body: JSON.stringify(fault) })
  assert.equal(answer.status, 201)
}

// raw calls through the client, for what it has no method for, and returns status and JSON.
const raw = async (method, path, body) => {
  const answer = await hubspot.apiRequest({ method, path, body })
  const text = await answer.text()
  return { status: answer.status, json: text && JSON.parse(text) }
}

// shape lists the paths and types of all members. Elements of a list are merged; the members of properties are data.
const shape = (value, path = '', set = new Set()) => {
  const kind = value === null ? 'null' : Array.isArray(value) ? 'list' : typeof value
  set.add(`${path} ${kind}`)
  if (kind === 'list') value.forEach((v) => shape(v, `${path}[]`, set))
  if (kind === 'object' && !path.endsWith('.properties')) Object.entries(value).forEach(([k, v]) => shape(v, `${path}.${k}`, set))
  return [...set].sort()
}
const recordings = '../../pkg/destinations/hubspot/sandbox/testdata/recordings/'
const recorded = (name) => JSON.parse(readFileSync(new URL(recordings + name, import.meta.url)))

// failure runs call, which must fail, and returns the client's error.
const failure = async (call) => {
  try {
    await call()
  } catch (e) {
    return e
  }
  assert.fail('the call succeeded')
}

const input = (trace, email, props) => ({
  idProperty: 'email', id: email, objectWriteTraceId: trace, properties: { email, ...props },
})

// driven are the operations that the client made with success.
const driven = new Set()
const note = async () => {
  for (const hub of ['', '/hubs/1001']) { // a hub counts the calls of its tokens
    (await view(`${hub}/counts`)).results.filter((c) => c.status >= 200 && c.status < 300).forEach((c) => driven.add(c.endpoint))
  }
}

beforeEach(async () => {
  await note()
  await fetch(`${SANDBOX_URL}/_sandbox/reset`, { method: 'POST' })
})

after(async () => {
  await note()
  assert.deepEqual(SANDBOX_ENDPOINTS.split(' ').filter((e) => !driven.has(e)), [], 'operations that no test drives')
})

describe('contacts', () => {
  test('create, then conflict', async () => {
    const made = await contacts.basicApi.create({ properties: { email: 'Jon@Website.com', firstname: 'Jon' }, associations: [] })
    assert.equal(made.properties.email, 'jon@website.com')
    assert.ok(made.createdAt instanceof Date)
    const e = await failure(() => contacts.basicApi.create({ properties: { email: 'jon@website.com' }, associations: [] }))
    assert.equal(e.code, 409)
    assert.equal(e.body.category, 'CONFLICT')
    assert.equal(e.body.message, `Contact already exists. Existing ID: ${made.id}`)
    assert.equal(e.headers['x-hubspot-correlation-id'], e.body.correlationId)
  })

  test('update and read by e-mail', async () => {
    await contacts.basicApi.create({ properties: { email: 'jon+1@web-site.com' }, associations: [] })
    await contacts.basicApi.update('jon+1@web-site.com', { properties: { city: 'Berlin' } }, 'email')
    const read = await contacts.basicApi.getById('jon+1@web-site.com', ['city', 'zip'], undefined, undefined, false, 'email')
    assert.equal(read.properties.city, 'Berlin')
    assert.equal(read.properties.zip, null)
    const e = await failure(() => contacts.basicApi.update('no@b.co', { properties: { city: 'x' } }, 'email'))
    assert.equal(e.code, 404)
  })

  test('batch upsert: all written', async () => {
    const inputs = Array.from({ length: 100 }, (_, i) => input(`t-${i}`, `User${i}@example.com`, { firstname: `N ${i}` }))
    const answer = await contacts.batchApi.upsert({ inputs })
    assert.equal(answer.status, 'COMPLETE')
    assert.equal(answer.results.length, 100)
    assert.ok(answer.startedAt instanceof Date)
    assert.ok(answer.results.every((r) => r._new && r.properties.email === r.properties.email.toLowerCase()))
    assert.equal((await view('/contacts')).total, 100)
    const again = await contacts.batchApi.upsert({ inputs: inputs.slice(0, 1) })
    assert.equal(again.results[0]._new, false)
  })

  test('batch upsert: 207 names the failures', async () => {
    const answer = await contacts.batchApi.upsert({
      inputs: [input('t-1', 'a@b.co', {}), input('t-2', '000', {}), input('t-3', 'c@d.co', { nosuch: 'x' })],
    })
    assert.equal(answer.numErrors, 2)
    assert.deepEqual(answer.errors.map((e) => e.context.objectWriteTraceId), [['t-2'], ['t-3']])
    assert.deepEqual(answer.errors.map((e) => e.category), ['VALIDATION_ERROR', 'VALIDATION_ERROR'])
    assert.equal(answer.results.length, 1)
    assert.equal((await view('/contacts')).total, 1)
  })

  test('batch upsert: 400 without trace ids', async () => {
    const e = await failure(() => contacts.batchApi.upsert({
      inputs: [input(undefined, 'a@b.co', {}), input(undefined, 'c@d.co', { nosuch: 'x' })],
    }))
    assert.equal(e.code, 400)
    assert.equal(e.body.category, 'VALIDATION_ERROR')
    assert.equal(e.body.errors[0].code, 'PROPERTY_DOESNT_EXIST')
    assert.deepEqual(e.body.errors[0].context.propertyName, ['nosuch'])
    assert.equal((await view('/contacts')).total, 0)
  })

  test('batch upsert: the same id twice', async () => {
    const e = await failure(() => contacts.batchApi.upsert({ inputs: [input('t-1', 'a@b.co', {}), input('t-2', 'A@b.co', {})] }))
    assert.equal(e.code, 400)
    assert.deepEqual(e.body.context.ids, ['a@b.co'])
  })

  test('values that are no strings pass when scalar', async () => {
    await contacts.batchApi.upsert({ inputs: [input('t-1', 'a@b.co', { city: 12.5, zip: true })] })
    assert.deepEqual((await contact('a@b.co')).properties, { email: 'a@b.co', city: '12.5', zip: 'true' })
    const e = await failure(() => contacts.batchApi.upsert({ inputs: [input('t-1', 'a@b.co', { city: { a: 1 } })] }))
    assert.equal(e.code, 400)
  })

  test('batch create, update, read, archive', async () => {
    const made = await contacts.batchApi.create({ inputs: [{ properties: { email: 'a@b.co' }, associations: [] }] })
    const id = made.results[0].id
    const updated = await contacts.batchApi.update({
      inputs: [{ id, properties: { city: 'Ulm' } }, { id: '999', properties: { city: 'Ulm' } }],
    })
    assert.equal(updated.results.length, 1)
    assert.deepEqual(updated.errors[0].context.ids, ['999'])
    const read = await contacts.batchApi.read({
      idProperty: 'email', inputs: [{ id: 'a@b.co' }], properties: ['city'], propertiesWithHistory: [],
    })
    assert.equal(read.results[0].properties.city, 'Ulm')
    await contacts.batchApi.archive({ inputs: [{ id }] })
    const e = await failure(() => contacts.basicApi.getById(id))
    assert.equal(e.code, 404)
  })

  test('list, archive, history', async () => {
    const inputs = ['Bonn', 'Ulm'].map((city) => input('t', 'a@b.co', { city }))
    for (const one of inputs) await contacts.batchApi.upsert({ inputs: [one] })
    await contacts.batchApi.upsert({ inputs: [input('t', 'c@d.co', {})] })
    const first = await contacts.basicApi.getPage(1, undefined, ['city'])
    assert.equal(first.results[0].properties.city, 'Ulm')
    const rest = await contacts.basicApi.getPage(1, first.paging.next.after)
    assert.equal(rest.results[0].properties.email, 'c@d.co')
    assert.equal(rest.paging, undefined)
    const read = await contacts.batchApi.read({
      idProperty: 'email', inputs: [{ id: 'a@b.co' }], properties: [], propertiesWithHistory: ['city'],
    })
    assert.deepEqual(read.results[0].propertiesWithHistory.city.map((v) => v.value), ['Ulm', 'Bonn'])
    assert.ok(read.results[0].propertiesWithHistory.city[0].timestamp instanceof Date)
    await contacts.basicApi.archive(first.results[0].id)
    assert.equal((await contacts.basicApi.getPage()).results.length, 1)
  })

  test('a secondary address reaches its contact', async () => {
    const answer = await fetch(`${SANDBOX_URL}/_sandbox/options`, { method: 'PATCH', body: '{"keep_old_email":true}' })
    assert.equal(answer.status, 200)
    const made = await contacts.basicApi.create({ properties: { email: 'old@b.co' }, associations: [] })
    await contacts.basicApi.update(made.id, { properties: { email: 'new@b.co' } })
    const upserted = await contacts.batchApi.upsert({ inputs: [{ ...input('t', 'old@b.co', {}), properties: { city: 'Bonn' } }] })
    assert.equal(upserted.results[0].id, made.id)
    const read = await contacts.batchApi.read({
      idProperty: 'email', inputs: [{ id: 'old@b.co' }, { id: 'no@b.co' }], properties: ['hs_additional_emails'], propertiesWithHistory: [],
    })
    assert.equal(read.results[0].properties.hs_additional_emails, 'old@b.co')
    assert.deepEqual(read.errors[0].context.ids, ['no@b.co'])
  })

  test('search waits out the limit of five per second', async () => {
    await contacts.batchApi.upsert({ inputs: [input('t-1', 'a@b.co', {}), input('t-2', 'c@d.co', {})] })
    const patient = client(SANDBOX_URL, { numberOfApiCallRetries: 3, limiterOptions: { minTime: 0, maxConcurrent: 6 } })
    const query = {
      filterGroups: [{ filters: [{ propertyName: 'email', operator: 'IN', values: ['a@b.co', 'x@y.co'] }] }],
      properties: ['email'], sorts: [], limit: 100, after: '0',
    }
    const answers = await Promise.all(Array.from({ length: 6 }, () => patient.crm.contacts.searchApi.doSearch(query)))
    assert.deepEqual(answers.map((a) => a.total), Array(6).fill(1))
    const counts = (await view('/counts')).results.filter((c) => c.endpoint === 'contacts/search')
    assert.deepEqual(counts.map((c) => [c.status, c.calls]).sort(), [[200, 6], [429, 1]])
  })
})

describe('properties', () => {
  const planTier = {
    name: 'plan_tier', label: 'Plan tier', groupName: 'contactinformation', type: 'enumeration', fieldType: 'select',
    options: [{ label: 'Pro', value: 'pro', displayOrder: 0, hidden: false }],
  }

  test('list', async () => {
    const list = await properties.coreApi.getAll('contacts')
    assert.ok(list.results.length > 400)
    const email = list.results.find((p) => p.name === 'email')
    assert.equal(email.type, 'string')
    assert.equal(email.modificationMetadata.readOnlyValue, false)
  })

  test('create, conflict, update the options', async () => {
    const made = await properties.coreApi.create('contacts', planTier)
    assert.equal(made.options[0].value, 'pro')
    const e = await failure(() => properties.coreApi.create('contacts', planTier))
    assert.equal(e.code, 409)
    assert.equal(e.body.subCategory, 'Properties.PROPERTY_WITH_NAME_EXISTS')
    await properties.coreApi.update('contacts', 'plan_tier', {
      options: [{ label: 'Ent', value: 'ent', displayOrder: 0, hidden: false }],
    })
    const read = await properties.coreApi.getByName('contacts', 'plan_tier')
    assert.deepEqual(read.options.map((o) => o.value), ['ent'])
    const answer = await contacts.batchApi.upsert({ inputs: [input('t-1', 'a@b.co', { plan_tier: 'pro' })] })
    assert.match(answer.errors[0].message, /pro was not one of the allowed options: \[ent\]/)
    await properties.coreApi.archive('contacts', 'plan_tier')
    assert.equal((await failure(() => properties.coreApi.getByName('contacts', 'plan_tier'))).code, 404)
  })
})

describe('properties in batches, and their groups', () => {
  const text = (name) => ({ name, label: name, groupName: 'mine', type: 'string', fieldType: 'text' })

  test('a group, then properties in it', async () => {
    assert.equal((await failure(() => properties.coreApi.create('contacts', text('a')))).code, 400)
    await properties.groupsApi.create('contacts', { name: 'mine', label: 'Mine', displayOrder: -1 })
    assert.ok((await properties.groupsApi.getAll('contacts')).results.some((g) => g.name === 'mine'))
    const made = await properties.batchApi.create('contacts', { inputs: [text('a'), text('b')] })
    assert.deepEqual(made.results.map((p) => p.name), ['a', 'b'])
    const read = await properties.batchApi.read('contacts', { archived: false, inputs: [{ name: 'a' }, { name: 'nosuch' }] })
    assert.deepEqual(read.results.map((p) => p.name), ['a'])
    await properties.batchApi.archive('contacts', { inputs: [{ name: 'a' }] })
    assert.equal((await failure(() => properties.coreApi.getByName('contacts', 'a'))).code, 404)
    const archived = await properties.coreApi.getAll('contacts', true)
    assert.deepEqual(archived.results.map((p) => p.name), ['a'])
    const restored = await properties.coreApi.create('contacts', text('a'))
    assert.equal(restored.archived, false)
  })
})

describe('account', () => {
  test('details and scopes', async () => {
    const details = await raw('GET', '/account-info/v3/details')
    assert.equal(details.json.portalId, 20546336)
    const info = await raw('POST', '/oauth/v2/private-apps/get/access-token-info', { tokenKey: 'pat-na1-test' })
    assert.equal(info.json.hubId, 20546336)
    assert.ok(info.json.scopes.includes('crm.objects.contacts.write'))
  })
})

describe('shapes of recorded answers', () => {
  // same sends a call and compares its answer with a recording.
  const same = async (name, status, method, path, body, but = []) => {
    const answer = await raw(method, path, body)
    assert.equal(answer.status, status)
    assert.deepEqual(shape(answer.json).filter((s) => !but.some((b) => s.startsWith(b))), shape(recorded(name)))
  }
  const batch = '/crm/v3/objects/contacts/batch'
  const made = (more) => ({ properties: { email: 'a@b.co', firstname: 'A', lastname: 'B' }, associations: [], ...more })

  test('account', () => same('post-auth__account-info.json', 200, 'GET', '/account-info/v3/details'))

  test('writes', async () => {
    await fetch(`${SANDBOX_URL}/_sandbox/options`, { method: 'PATCH', body: '{"lifecycle_stage":"lead"}' })
    await same('batch__create__contacts__success.json', 201, 'POST', `${batch}/create`, { inputs: [made()] })
    await same('batch__create__contacts__err-conflict.json', 409, 'POST', `${batch}/create`, { inputs: [made()] })
    await same('batch__update__contacts__success.json', 200, 'POST', `${batch}/update`, { inputs: [{ id: '101', properties: { firstname: 'C' } }] })
    await same(
      'batch__create__contacts__err-partial-success.json', 207, 'POST', `${batch}/create`,
      { inputs: [made({ objectWriteTraceId: '0' }), { objectWriteTraceId: '1', properties: { email: 'c@d.co' } }] },
      ['.results[].objectWriteTraceId'], // cut from the recording
    )
    await same('batch__update__contacts__err-partial-success.json', 207, 'POST', `${batch}/update`, {
      inputs: [{ id: '101', properties: { firstname: 'D' } }, { id: 'unknownIdentifier888', properties: { firstname: 'E' } }],
    })
    const twice = { id: '123456', properties: {} }
    await same('batch__update__contacts__err-duplicate-ids.json', 400, 'POST', `${batch}/update`, { inputs: [twice, twice] })
    const unknown = { properties: { first000name: 'x', last000name: 'y' } }
    await same('batch__create__contacts__err-many-invalid-properties.json', 400, 'POST', `${batch}/create`, { inputs: [unknown, unknown] })
  })

  test('properties', async () => {
    await properties.groupsApi.create('contacts', { name: 'integrationcreatedproperties', label: 'Integration Created Properties', displayOrder: -1 })
    const path = '/crm/v3/properties/contacts'
    const payload = recorded('custom__create__3-payload-batch-create-properties.json')
    await same('custom__create__4-response-batch-create-properties.json', 201, 'POST', `${path}/batch/create`, payload)
    await same(
      'custom__update__7-response-update-property-interests.json', 200, 'PATCH', `${path}/interests__c`,
      recorded('custom__update__6-payload-update-property-interests.json'),
    )
  })
})

describe('events', () => {
  const event = (more) => ({
    eventName: 'pe20546336_signed_up', email: 'a@b.co', occurredAt: new Date('2026-01-20T21:14:16.512Z'), properties: { plan: 'pro' }, ...more,
  })
  beforeEach(async () => {
    const answer = await hubspot.apiRequest({
      method: 'POST', path: '/events/v3/event-definitions',
      body: { label: 'Signed up', name: 'signed_up', propertyDefinitions: [{ name: 'plan', label: 'Plan', type: 'string' }] },
    })
    assert.equal(answer.status, 201)
    assert.equal((await answer.json()).fullyQualifiedName, 'pe20546336_signed_up')
  })

  test('send', async () => {
    await hubspot.events.send.basicApi.send(event({ uuid: 'u-1' }))
    const { results } = await view('/events')
    assert.equal(results.length, 1)
    assert.equal(results[0].occurredAt, '2026-01-20T21:14:16.512Z')
    assert.deepEqual(results[0].properties, { plan: 'pro' })
    const e = await failure(() => hubspot.events.send.basicApi.send(event({ uuid: 'u-1' })))
    assert.equal(e.code, 400)
    assert.match(e.body.message, /u-1/)
  })

  test('definitions', async () => {
    const path = '/events/v3/event-definitions'
    const listed = await raw('GET', `${path}?limit=100&includeProperties=true`)
    assert.deepEqual(listed.json.results.map((d) => d.fullyQualifiedName), ['pe20546336_signed_up'])
    const property = await raw('POST', `${path}/signed_up/property`, { name: 'seats', label: 'Seats', type: 'number' })
    assert.equal(property.status, 201)
    const read = await raw('GET', `${path}/pe20546336_signed_up`)
    assert.ok(read.json.properties.some((p) => p.name === 'seats'))
    assert.equal((await raw('DELETE', `${path}/signed_up`)).status, 204)
    const again = await raw('POST', path, { label: 'Signed up', name: 'signed_up', propertyDefinitions: [] })
    assert.equal(again.status, 400) // the name is burnt
  })

  test('send a batch; repeats are dropped', async () => {
    const inputs = Array.from({ length: 500 }, (_, i) => event({ uuid: `u-${i % 400}` }))
    await hubspot.events.send.batchApi.send({ inputs })
    assert.equal((await view('/events?limit=1')).total, 400)
    const e = await failure(() => hubspot.events.send.batchApi.send({ inputs: [event(), event({ eventName: 'signed_up' })] }))
    assert.equal(e.code, 400)
    assert.equal((await view('/events?limit=1')).total, 400)
  })
})

describe('retries', () => {
  const upsert = (c) => c.crm.contacts.batchApi.upsert({ inputs: [input('t-1', 'a@b.co', {})] })

  test('of 502 and dropped writes: the second attempt updates what the first applied', async () => {
    await inject({ endpoint: 'contacts', times: 1, status: 502, apply: true })
    const answer = await upsert(client(SANDBOX_URL, { numberOfApiCallRetries: 2 }))
    assert.equal(answer.results[0]._new, false)
  })

  test('not of 423', async () => {
    await inject({ endpoint: 'contacts', times: 1, status: 423 })
    assert.equal((await failure(() => upsert(client(SANDBOX_URL, { numberOfApiCallRetries: 3 })))).code, 423)
  })

  test('of the ten-second limit, once the window has passed', async () => {
    const patient = client(SANDBOX_BURST_URL, { numberOfApiCallRetries: 2 })
    await upsert(patient)
    const began = Date.now()
    await upsert(patient)
    assert.ok(Date.now() - began >= 9900, `after ${Date.now() - began} ms`)
  })

  test('not of the daily limit', async () => {
    const patient = client(SANDBOX_DAILY_URL, { numberOfApiCallRetries: 3 })
    await upsert(patient)
    const e = await failure(() => upsert(patient))
    assert.equal(e.code, 429)
    assert.equal(e.body.policyName, 'DAILY')
    assert.equal(e.headers['x-hubspot-ratelimit-daily-remaining'], '0')
  })
})

describe('oauth', () => {
  const app = { client_id: 'cid', client_secret: 'csecret' }
  const redirect = 'http://localhost:8080/cb'
  const scope = 'oauth crm.objects.contacts.read crm.objects.contacts.write'
  const { accessTokensApi, refreshTokensApi, tokensApi } = client(SANDBOX_URL).oauth
  const form = async (path, fields) => {
    const answer = await fetch(`${SANDBOX_URL}${path}`, { method: 'POST', body: new URLSearchParams({ ...app, ...fields }) })
    const text = await answer.text()
    return { status: answer.status, json: text && JSON.parse(text) }
  }

  // code grants the install link that the client makes, as a person would whose hub is 1001.
  const code = async () => {
    const link = new URL(client(SANDBOX_URL).oauth.getAuthorizationUrl('cid', redirect, scope, 'analytics.behavioral_events.send', 's-1'))
    const url = SANDBOX_URL + link.pathname + link.search
    const page = await fetch(url)
    assert.equal(page.status, 200)
    assert.match(await page.text(), /Connect Shop to HubSpot/)
    const answer = await fetch(url, { method: 'POST', redirect: 'manual', body: new URLSearchParams({ hub: '1001', decision: 'grant' }) })
    assert.equal(answer.status, 302)
    const back = new URL(answer.headers.get('location'))
    assert.equal(back.searchParams.get('state'), 's-1')
    return back.searchParams.get('code')
  }
  const connect = async () => tokensApi.create('authorization_code', await code(), redirect, app.client_id, app.client_secret)

  test('code, refresh, and a contact in the hub of who granted', async () => {
    const tokens = await connect()
    assert.equal(tokens.tokenType, 'bearer')
    assert.equal(tokens.expiresIn, 1800)
    const refreshed = await tokensApi.create('refresh_token', undefined, undefined, app.client_id, app.client_secret, tokens.refreshToken)
    assert.equal(refreshed.refreshToken, tokens.refreshToken)
    const own = client(SANDBOX_URL, { accessToken: refreshed.accessToken })
    const made = await own.crm.contacts.basicApi.create({ properties: { email: 'ada@b.co' }, associations: [] })
    assert.equal((await view('/hubs/1001/contacts')).results[0].id, made.id)
    assert.equal((await view('/contacts')).total, 0)
    const info = await accessTokensApi.get(refreshed.accessToken)
    assert.equal(info.hubId, 1001)
    assert.deepEqual(info.scopes, ['analytics.behavioral_events.send', ...scope.split(' ').slice(1), 'oauth'])
    assert.equal((await refreshTokensApi.get(tokens.refreshToken)).clientId, 'cid')
    assert.ok((await view('/calls')).results.every((c) => !c.path.includes(refreshed.accessToken) && !c.path.includes(tokens.refreshToken)))
  })

  test('refusals', async () => {
    const e = await failure(() => tokensApi.create('refresh_token', undefined, undefined, app.client_id, app.client_secret, 'na1-wrong'))
    assert.equal(e.code, 400)
    assert.equal(e.body.status, 'BAD_REFRESH_TOKEN')
    const tokens = await connect()
    const own = client(SANDBOX_URL, { accessToken: tokens.accessToken })
    const expired = await fetch(`${SANDBOX_URL}/_sandbox/installs/cid/1001/expire`, { method: 'POST' })
    assert.equal(expired.status, 204)
    const old = await failure(() => own.crm.contacts.basicApi.getPage())
    assert.equal(old.code, 401)
    assert.equal(old.body.category, 'EXPIRED_AUTHENTICATION')
  })

  test('introspect, revoke, uninstall', async () => {
    const tokens = await connect()
    const known = await form('/oauth/2026-03/token/introspect', { token: tokens.refreshToken, token_type_hint: 'refresh_token' })
    assert.equal(known.json.active, true)
    assert.equal(known.json.hub_id, 1001)
    assert.equal((await form('/oauth/2026-03/token/revoke', { token: tokens.refreshToken })).status, 200)
    assert.deepEqual((await form('/oauth/2026-09/token/introspect', { token: tokens.refreshToken })).json, { active: false })
    const second = await connect()
    await refreshTokensApi.archive(second.refreshToken)
    const e = await failure(() => tokensApi.create('refresh_token', undefined, undefined, app.client_id, app.client_secret, second.refreshToken))
    assert.equal(e.body.status, 'BAD_REFRESH_TOKEN')
    const own = client(SANDBOX_URL, { accessToken: second.accessToken })
    const gone = await own.apiRequest({ method: 'DELETE', path: '/appinstalls/2026-03/external-install' })
    assert.equal(gone.status, 204)
    assert.equal((await failure(() => own.crm.contacts.basicApi.getPage())).code, 401)
    assert.deepEqual((await view('/installs')).results, [])
  })
})

test('a wrong token', async () => {
  const e = await failure(() => new Client({ basePath: SANDBOX_URL, accessToken: 'wrong' }).crm.properties.coreApi.getAll('contacts'))
  assert.equal(e.code, 401)
  assert.equal(e.body.category, 'INVALID_AUTHENTICATION')
})
