import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;

/** What an AdminClient asks: some of it of any broker, some of one certain broker, some of the controller, some of a coordinator. */
class Administer {
    static void run(Properties base, String topic, String group) throws Exception {
        try (Admin admin = Admin.create(base)) {
            DescribeClusterResult cluster = admin.describeCluster();
            Collection<Node> nodes = cluster.nodes().get();
            for (Node node : nodes) {
                Main.say("node %d %s:%d", node.id(), node.host(), node.port());
            }
            Main.say("controller %s:%d", cluster.controller().get().host(), cluster.controller().get().port());

            TopicDescription description = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
            TreeSet<String> leaders = description.partitions().stream()
                    .map(partition -> partition.leader().host()).collect(Collectors.toCollection(TreeSet::new));
            Main.say("leaders %s", String.join(",", leaders));

            Map<TopicPartition, OffsetSpec> latest = description.partitions().stream()
                    .collect(Collectors.toMap(partition -> new TopicPartition(topic, partition.partition()), partition -> OffsetSpec.latest()));
            long records = admin.listOffsets(latest).all().get().values().stream().mapToLong(ListOffsetsResultInfo::offset).sum();
            Main.say("offsets %d", records);

            Main.say("groups %s", admin.listGroups().all().get().stream().map(listed -> listed.groupId()).sorted().collect(Collectors.joining(",")));
            Main.say("coordinator %s", admin.describeConsumerGroups(List.of(group)).all().get().get(group).coordinator().host());
            long committed = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().values().stream().mapToLong(offset -> offset.offset()).sum();
            Main.say("committed %d", committed);

            // Broker configurations are asked of that very broker; a client sent to another one gets an error.
            List<ConfigResource> brokers = nodes.stream().map(node -> new ConfigResource(ConfigResource.Type.BROKER, node.idString())).toList();
            for (Map.Entry<ConfigResource, Config> config : admin.describeConfigs(brokers).all().get().entrySet()) {
                Main.say("config %s node.id=%s", config.getKey().name(), config.getValue().get("node.id").value());
            }
            Main.say("logdirs %d", admin.describeLogDirs(nodes.stream().map(Node::id).toList()).allDescriptions().get().size());
            Main.say("quorum %d", admin.describeMetadataQuorum().quorumInfo().get().voters().size());

            // Changes go to the controller.
            admin.deleteTopics(List.of(topic)).all().get();
        }
        Main.say("done");
    }
}
