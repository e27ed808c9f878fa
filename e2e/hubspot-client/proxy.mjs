// HubSpot's official client through the router's proxy: only its base path and its token differ, and a header says whose account it is. proxy_test.go of e2e sets the addresses.
import assert from 'node:assert/strict'
import { Client } from '@hubspot/api-client'

const { PROXY, KEY, END_USER_TOKEN } = process.env
const as = (account, more) => new Client({ basePath: PROXY, accessToken: KEY, defaultHeaders: { 'X-Account': account }, ...more })
const failure = async (call) => {
  try {
    await call()
  } catch (e) {
    return e
  }
  assert.fail('the call succeeded')
}
const upsert = (client, inputs) => client.crm.contacts.batchApi.upsert({
  inputs: inputs.map((email) => ({ idProperty: 'email', id: email, properties: { email, firstname: 'Upserted' } })),
})

const a1 = as('a1')
const made = await a1.crm.contacts.basicApi.create({ properties: { email: 'ada@one.example', firstname: 'Ada' }, associations: [] })
const read = await a1.crm.contacts.basicApi.getById('ada@one.example', ['firstname'], undefined, undefined, false, 'email')
assert.equal(read.id, made.id)
assert.equal(read.properties.firstname, 'Ada')
assert.equal((await upsert(a1, ['ada@one.example', 'eve@one.example'])).results.length, 2)
const found = await a1.crm.contacts.searchApi.doSearch({
  filterGroups: [{ filters: [{ propertyName: 'email', operator: 'EQ', value: 'eve@one.example' }] }], properties: ['email'], sorts: [], limit: 10, after: '0', query: '',
})
assert.equal(found.results[0]?.properties.email, 'eve@one.example')
assert.equal((await failure(() => a1.crm.contacts.basicApi.getById('999999999'))).code, 404)
assert.equal((await failure(() => a1.crm.contacts.basicApi.archive(made.id))).code, 403) // not allowed

// An end user, whose token names the account.
const user = new Client({ basePath: PROXY, accessToken: END_USER_TOKEN })
await user.crm.contacts.basicApi.create({ properties: { email: 'bob@two.example', firstname: 'Bob' }, associations: [] })
assert.equal((await failure(() => user.crm.contacts.basicApi.getById('ada@one.example', [], undefined, undefined, false, 'email'))).code, 404)
assert.equal((await failure(() => as('nobody').crm.contacts.basicApi.getPage())).code, 404)

// More than the account's quota at once: those that find no room are told so, and the client's own retries bring them through.
const hasty = as('a2', { numberOfApiCallRetries: 0, limiterOptions: { minTime: 0, maxConcurrent: 10 } })
const outcomes = await Promise.all(Array.from({ length: 120 }, () => hasty.crm.contacts.basicApi.getPage().then(() => 200, (e) => e.code)))
assert.deepEqual([...new Set(outcomes)].sort(), [200, 429], String(outcomes))
const patient = as('a2', { numberOfApiCallRetries: 3 })
const began = Date.now()
await patient.crm.contacts.basicApi.getPage()
assert.ok(Date.now() - began > 5000, 'the call that was to be tried again went through at once')
console.log('done')
