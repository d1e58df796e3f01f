// Connects with KafkaJS and prints what it says, a line each.
//
//     symptoms.js CASE.json
//
// CASE is bootstrap, protocol and hosts (a hosts file with all names that can be resolved),
// and, where they are needed, ca, mechanism, user and password. See interop/symptoms.go.

const fs = require('fs')
const net = require('net')
const tls = require('tls')
const { Kafka, logLevel } = require('kafkajs')

const settings = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'))
const hosts = new Map(fs.readFileSync(settings.hosts, 'utf8').trim().split('\n').map(line => line.split(' ').reverse()))

function lookup(host, options, callback) {
  const address = hosts.get(host)
  if (address === undefined) { // as Node.js says it
    callback(Object.assign(new Error(`getaddrinfo ENOTFOUND ${host}`), { code: 'ENOTFOUND' }))
    return
  }
  if (options.all) callback(null, [{ address, family: 4 }])
  else callback(null, address, 4)
}

const kafka = new Kafka({
  clientId: 'kafkajs',
  brokers: [settings.bootstrap],
  ssl: settings.protocol.endsWith('SSL') ? { ca: settings.ca && fs.readFileSync(settings.ca) } : undefined,
  sasl: settings.mechanism && { mechanism: settings.mechanism.toLowerCase(), username: settings.user, password: settings.password },
  socketFactory: ({ host, port, ssl, onConnect }) =>
    ssl ? tls.connect({ host, port, lookup, servername: net.isIP(host) ? '' : host, ...ssl }, onConnect) : net.connect({ host, port, lookup }, onConnect),
  connectionTimeout: 4000,
  requestTimeout: 4000,
  retry: { retries: 0 },
  logLevel: logLevel.WARN,
  logCreator: () => ({ log }) => console.log(log.message, log.error || ''),
})

const admin = kafka.admin()
admin.connect()
  .then(() => admin.describeCluster())
  .then(cluster => console.log('it worked:', JSON.stringify(cluster)), error => console.log(`${error.name}: ${error.message}`))
  .finally(() => process.exit(0))
