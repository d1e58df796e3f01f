// Connects with KafkaJS and prints what it says, a line each.
//
//     symptoms.js CASE.json
//
// CASE is bootstrap, protocol and hosts (a hosts file with all names that can be resolved),
// and, where they are needed, ca, cert and key, mechanism, user and password, servername, work
// and topic. See interop/symptoms.go.

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
  ssl: settings.protocol.endsWith('SSL')
    ? {
        ca: settings.ca && fs.readFileSync(settings.ca),
        cert: settings.cert && fs.readFileSync(settings.cert),
        key: settings.key && fs.readFileSync(settings.key),
        ...(settings.servername && { servername: settings.servername }),
      }
    : undefined,
  sasl: settings.mechanism && { mechanism: settings.mechanism.toLowerCase(), username: settings.user, password: settings.password },
  socketFactory: ({ host, port, ssl, onConnect }) =>
    ssl ? tls.connect({ host, port, lookup, servername: net.isIP(host) ? '' : host, ...ssl }, onConnect) : net.connect({ host, port, lookup }, onConnect),
  connectionTimeout: 4000,
  requestTimeout: 4000,
  retry: { retries: 0 },
  logLevel: settings.work === 'consume' ? logLevel.DEBUG : logLevel.WARN, // consumers try again without a warning
  logCreator: () => ({ log }) => console.log(log.message, log.error || ''),
})

const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds))

async function describe(times) {
  const admin = kafka.admin()
  await admin.connect()
  let cluster = await admin.describeCluster()
  for (let i = 1; i < times; i++) {
    await pause(3000) // for longer than connections may be idle
    cluster = await admin.describeCluster()
  }
  return cluster
}

async function produce() {
  const producer = kafka.producer()
  await producer.connect()
  const messages = [0, 1, 2, 3, 4, 5].map(partition => ({ partition, value: 'x' }))
  return producer.send({ topic: settings.topic, messages, timeout: 4000 })
}

async function consume() {
  const consumer = kafka.consumer({ groupId: 'kafkajs-symptoms', sessionTimeout: 6000, maxWaitTimeInMs: 2500 })
  await consumer.connect()
  await consumer.subscribe({ topic: settings.topic, fromBeginning: true })
  await consumer.run({ eachMessage: async () => {} })
  await pause(18000)
  return 'consumed'
}

const work = { twice: () => describe(2), produce, consume }[settings.work] || (() => describe(1))
work()
  .then(done => console.log('it worked:', JSON.stringify(done)), error => console.log(`${error.name}: ${error.message}`))
  .finally(() => process.exit(0))
