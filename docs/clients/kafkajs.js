const fs = require('fs')
const { Kafka } = require('kafkajs')

const kafka = new Kafka({
  brokers: ['bootstrap.kafka.example:9092'],
  // No servername here: KafkaJS then sends the name of the broker that it connects to.
  ssl: { ca: fs.readFileSync('ca.pem') },
  sasl: { mechanism: 'plain', username: 'alice', password: 'alice-secret' },
})

async function main() {
  const producer = kafka.producer()
  await producer.connect()
  await producer.send({ topic: 'greetings', messages: [{ value: 'hello from KafkaJS' }] })
  await producer.disconnect()

  const consumer = kafka.consumer({ groupId: 'kafkajs' })
  await consumer.connect()
  await consumer.subscribe({ topic: 'greetings', fromBeginning: true })
  await new Promise((resolve, reject) => {
    consumer.run({
      eachMessage: async ({ message }) => {
        if (message.value.toString() !== 'hello from KafkaJS') return
        console.log('read:', message.value.toString())
        resolve()
      },
    }).catch(reject)
  })
  await consumer.disconnect()
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
