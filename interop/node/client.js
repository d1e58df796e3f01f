// The KafkaJS clients of the interop run.
//
//     client.js produce SETTINGS TOPIC TAG PER-SECOND
//     client.js consume SETTINGS TOPIC GROUP
//
// SETTINGS is a JSON file with bootstrap, ca (a PEM file), servername (the one name that is
// sent to all brokers in the TLS handshake) and hosts (a hosts file with all names that can be
// resolved). They say and take the same lines as those in interop/java: the producer runs
// until its standard input ends; the consumer ends once it has seen as many distinct records
// as the order "until N" says. KafkaJS's own log goes to standard error.

const fs = require('fs')
const net = require('net')
const readline = require('readline')
const tls = require('tls')
const { Kafka, logLevel } = require('kafkajs')

const [subcommand, path, topic, name, perSecond] = process.argv.slice(2)
const settings = JSON.parse(fs.readFileSync(path, 'utf8'))
const hosts = new Map(fs.readFileSync(settings.hosts, 'utf8').trim().split('\n').map(line => line.split(' ').reverse()))

const say = line => process.stdout.write(line + '\n')

// lookup resolves the names in the hosts file, and nothing else.
function lookup(host, options, callback) {
  const address = hosts.get(host)
  if (address === undefined) {
    console.error(`a client was told to connect to "${host}", a name it cannot know`)
    callback(Object.assign(new Error(`${host} cannot be resolved`), { code: 'ENOTFOUND' }))
    return
  }
  if (options.all) callback(null, [{ address, family: 4 }])
  else callback(null, address, 4)
}

const kafka = new Kafka({
  clientId: 'kafkajs',
  brokers: [settings.bootstrap],
  ssl: { ca: fs.readFileSync(settings.ca), servername: settings.servername },
  // What KafkaJS does itself, but for the lookup.
  socketFactory: ({ host, port, ssl, onConnect }) => {
    const socket = ssl
      ? tls.connect({ host, port, lookup, ...ssl }, onConnect)
      : net.connect({ host, port, lookup }, onConnect)
    return socket.setKeepAlive(true, 60000)
  },
  retry: { retries: 5 },
  logLevel: logLevel.DEBUG,
  logCreator: () => ({ label, log }) => console.error(label, JSON.stringify(log)),
})

async function produce() {
  let ended = false
  process.stdin.resume().on('end', () => { ended = true })
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  let sent = 0, acked = 0, told = 0
  const begin = Date.now()
  while (!ended) {
    const messages = []
    for (const due = (Date.now() - begin) * perSecond / 1000; sent < due; sent++) {
      messages.push({ key: name + sent, value: `${name}:${sent}:${'x'.repeat(100)}` })
    }
    if (messages.length > 0) {
      await producer.send({ topic, acks: -1, messages })
      acked += messages.length
    }
    if (acked - told >= 500) say(`progress ${told = acked}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  await producer.disconnect()
  say(`done sent=${sent} acked=${acked}`)
}

async function consume() {
  let until = Infinity, records = 0, ended
  const seen = new Set()
  const end = new Promise(resolve => { ended = resolve })
  const look = () => { if (seen.size >= until) ended() }
  readline.createInterface({ input: process.stdin }).on('line', line => {
    until = Number(line.replace('until ', ''))
    look()
  })
  const consumer = kafka.consumer({ groupId: name })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    eachMessage: async ({ message }) => {
      const [tag, number] = message.value.toString().split(':')
      seen.add(tag + ':' + number)
      if (++records % 500 === 0) say(`progress ${records}`)
      look()
    },
  })
  await end
  await consumer.disconnect()
  say(`done records=${records} distinct=${seen.size} duplicates=${records - seen.size}`)
}

const done = { produce, consume }[subcommand]()
done.then(() => process.exit(0), error => {
  say(`failed ${error}`)
  process.exit(1)
})
