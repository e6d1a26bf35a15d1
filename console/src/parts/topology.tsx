// The graph in the words of PatternFly's topology: nodes by namespace, edges with what they are.

import LockIcon from '@patternfly/react-icons/dist/esm/icons/lock-icon';
import LockOpenIcon from '@patternfly/react-icons/dist/esm/icons/lock-open-icon';
import {
  DagreLayout,
  DefaultEdge,
  DefaultGroup,
  DefaultNode,
  EdgeStyle,
  EdgeTerminalType,
  GraphComponent,
  ModelKind,
  NodeShape,
  NodeStatus,
  withPanZoom,
  withSelection,
  type ComponentFactory,
  type Edge,
  type EdgeModel,
  type Graph,
  type GraphElement,
  type LayoutFactory,
  type Model,
  type Node,
  type NodeModel,
} from '@patternfly/react-topology';
import type { ReactNode } from 'react';
import { share, units } from '../api/amounts';
import type { EdgeState, Traffic, TrafficEdge, TrafficNode } from '../api/types';

const SIZE = 48;

export function edgeId(edge: TrafficEdge): string {
  return `${edge.from} → ${edge.to}`;
}

const STATUS: Record<EdgeState, NodeStatus> = {
  mtls: NodeStatus.success,
  mixed: NodeStatus.warning,
  plaintext: NodeStatus.danger,
  tls: NodeStatus.info,
  refused: NodeStatus.default,
};
// The dash tells the states apart where colour does not.
const STYLE: Record<EdgeState, EdgeStyle> = {
  mtls: EdgeStyle.solid,
  mixed: EdgeStyle.dashedMd,
  plaintext: EdgeStyle.dashed,
  tls: EdgeStyle.solid,
  refused: EdgeStyle.dotted,
};

/** What stands beside an edge: the share of mutual TLS as soon as some was, else the word. */
function tag(edge: TrafficEdge): string {
  const { mtls, total } = units(edge);
  if (mtls > 0 || edge.state === 'mtls') return total === 0 ? 'mTLS' : `mTLS ${share(mtls, total)}`;
  return { mixed: 'mixed', plaintext: 'plaintext', tls: 'TLS', refused: 'refused', mtls: 'mTLS' }[edge.state];
}

const SHAPES: Record<TrafficNode['kind'], NodeShape> = {
  workload: NodeShape.ellipse,
  service: NodeShape.rhombus,
  address: NodeShape.hexagon,
  many: NodeShape.hexagon,
};

function node(one: TrafficNode): NodeModel {
  return {
    id: one.id,
    type: 'node',
    label: one.namespace === null ? one.id : one.id.slice(one.namespace.length + 1),
    width: SIZE,
    height: SIZE,
    shape: SHAPES[one.kind],
    data: one,
  };
}

function group(namespace: string, nodes: TrafficNode[]): NodeModel {
  return {
    id: `namespace ${namespace}`,
    type: 'group',
    group: true,
    label: namespace,
    children: nodes.filter((one) => one.namespace === namespace).map((one) => one.id),
    style: { padding: 32 },
  };
}

function line(edge: TrafficEdge): EdgeModel {
  return { id: edgeId(edge), type: 'edge', source: edge.from, target: edge.to, edgeStyle: STYLE[edge.state], data: edge };
}

export function model(traffic: Traffic): Model {
  const namespaces = [...new Set(traffic.nodes.flatMap((one) => one.namespace ?? []))];
  return {
    graph: { id: 'traffic', type: 'graph', layout: 'Dagre' },
    nodes: [...traffic.nodes.map(node), ...namespaces.map((one) => group(one, traffic.nodes))],
    edges: traffic.edges.map(line),
  };
}

interface Selectable {
  selected?: boolean;
  onSelect?: (event: React.MouseEvent) => void;
}

function icon(sidecar: boolean | null): ReactNode {
  if (sidecar === null) return null;
  const Icon = sidecar ? LockIcon : LockOpenIcon;
  return (
    <g transform={`translate(${SIZE / 2 - 10}, ${SIZE / 2 - 10})`}>
      <Icon width={20} height={20} />
    </g>
  );
}

function WorkloadNode({ element, ...rest }: { element: GraphElement } & Selectable) {
  return (
    <DefaultNode element={element as Node} {...rest}>
      {icon((element.getData() as TrafficNode).sidecar)}
    </DefaultNode>
  );
}

function TrafficLine({ element, ...rest }: { element: GraphElement } & Selectable) {
  const edge = element.getData() as TrafficEdge;
  return (
    <DefaultEdge
      element={element as Edge}
      endTerminalType={EdgeTerminalType.directional}
      endTerminalStatus={STATUS[edge.state]}
      tag={tag(edge)}
      tagStatus={STATUS[edge.state]}
      {...rest}
    />
  );
}

export const components: ComponentFactory = (kind, type) => {
  if (kind === ModelKind.graph) return withPanZoom()(GraphComponent);
  if (type === 'group') return DefaultGroup as ReturnType<ComponentFactory>;
  if (kind === ModelKind.node) return withSelection()(WorkloadNode);
  return kind === ModelKind.edge ? withSelection()(TrafficLine) : undefined;
};

export const layouts: LayoutFactory = (_, graph: Graph) => new DagreLayout(graph, { rankdir: 'LR', nodeDistance: 24, nodesep: 8, edgesep: 8, ranksep: 24 });
